// echo PORT|PATH MODE: Go's net package, a goroutine a connection. Go sets TCP_NODELAY by itself.
// The mode is echo, hello or lines=N on a TCP port, tls=CERTIFICATE for echo over TLS, unix for echo
// on a Unix stream socket, udp for echo, or sink to discard UDP datagrams.
package main

import (
	"crypto/tls"
	"fmt"
	"log"
	"net"
	"os"
	"strings"
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

func serveDatagrams(port string, answer bool) {
	address, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	if err != nil {
		log.Fatal(err)
	}
	socket, err := net.ListenUDP("udp", address)
	if err != nil {
		log.Fatal(err)
	}
	buffer := make([]byte, 64*1024)
	for {
		count, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			log.Fatal(err)
		}
		if answer {
			socket.WriteToUDPAddrPort(buffer[:count], from)
		}
	}
}

func listen(where, mode string) (net.Listener, error) {
	if mode == "unix" {
		return net.Listen("unix", where)
	}
	if file := strings.TrimPrefix(mode, "tls="); file != mode {
		certificate, err := tls.LoadX509KeyPair(file, file)
		if err != nil {
			return nil, err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		return tls.Listen("tcp", "127.0.0.1:"+where, config)
	}
	return net.Listen("tcp", "127.0.0.1:"+where)
}

func main() {
	where, mode, writes := os.Args[1], os.Args[2], 1
	if mode == "udp" || mode == "sink" {
		serveDatagrams(where, mode == "udp")
	}
	hello := mode == "hello"
	fmt.Sscanf(mode, "lines=%d", &writes)
	listener, err := listen(where, mode)
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
