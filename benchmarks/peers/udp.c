/* udp PORT [udp|sink]: reads UDP datagrams and sends them back, or discards them; one system call
 * for each. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int main(int count, char **arguments)
{
    static char buffer[65536];
    struct sockaddr_in address = {.sin_family = AF_INET}, from;
    socklen_t length = sizeof from;
    int answer = count > 2 && strcmp(arguments[2], "udp") == 0, fd = socket(AF_INET, SOCK_DGRAM, 0);
    ssize_t got;

    if (count < 2)
        return 2;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)atoi(arguments[1]));
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("udp");
        return 1;
    }
    while ((got = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&from, &length)) >= 0) {
        if (answer)
            sendto(fd, buffer, (size_t)got, 0, (struct sockaddr *)&from, length);
        length = sizeof from;
    }
    perror("udp");
    return 1;
}
