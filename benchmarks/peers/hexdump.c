/* hexdump PATH: print each datagram of a Unix socket as hex, the way a C tutorial does it. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

int main(int count, char **arguments)
{
    static unsigned char buffer[65536];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    ssize_t got;

    if (count < 2 || strlen(arguments[1]) >= sizeof address.sun_path)
        return 2;
    strcpy(address.sun_path, arguments[1]);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("hexdump");
        return 1;
    }
    while ((got = recv(fd, buffer, sizeof buffer, 0)) >= 0) {
        for (ssize_t i = 0; i < got; i++)
            printf("%02x ", buffer[i]);
        printf("\n");
    }
    return 1;
}
