// echo PORT [echo|hello|lines=N]: Go's net package, a goroutine a connection. Go sets TCP_NODELAY by
// itself.
package main

import (
	"fmt"
	"log"
	"net"
	"os"
)

func serve(connection net.Conn, hello bool, writes int) {
	defer connection.Close()
	if hello {
		connection.Write([]byte("Hello, world!\n"))
		return
	}
	// As large as io.Copy's own. io.Copy itself would splice(2) and never see the bytes.
	buffer := make([]byte, 32*1024)
	for {
		count, err := connection.Read(buffer)
		if err != nil {
			return
		}
		for i := 0; i < writes; i++ {
			if _, err = connection.Write(buffer[:count]); err != nil {
				return
			}
		}
	}
}

func main() {
	hello, writes := false, 1
	if len(os.Args) > 2 {
		hello = os.Args[2] == "hello"
		fmt.Sscanf(os.Args[2], "lines=%d", &writes)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		connection, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(connection, hello, writes)
	}
}
