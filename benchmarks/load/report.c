/* Clocks, the latency histogram, errors, and the report as one line of JSON. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "load.h"

static uint64_t errors;
static char first_error[160];

static uint64_t read_clock(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) < 0)
        die("the CPU clock of the server cannot be read; it is gone");
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

/* The encoding of clock_getcpuclockid(3). It counts threads that have ended, too. */
static uint64_t server_cpu(const struct options *options)
{
    return options->pid ? read_clock((clockid_t)((~(unsigned)options->pid << 3) | 2)) : 0;
}

void report_open(struct report *report, const struct options *options)
{
    *report = (struct report){0};
    report->server_cpu = server_cpu(options);
    report->load_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID);
    report->started = now();
}

void report_close(struct report *report, const struct options *options)
{
    report->ended = now();
    report->server_cpu = server_cpu(options) - report->server_cpu;
    report->load_cpu = read_clock(CLOCK_PROCESS_CPUTIME_ID) - report->load_cpu;
}

void report_latency(struct report *report, uint64_t ns)
{
    unsigned index = (unsigned)ns;
    if (ns >= STEPS) {
        unsigned power = 63 - (unsigned)__builtin_clzll(ns);
        index = (power - 5) * STEPS + (unsigned)((ns >> (power - 6)) & (STEPS - 1));
    }
    report->histogram[index]++;
    report->samples++;
    if (ns > report->longest)
        report->longest = ns;
}

static double percentile_us(const struct report *report, double part)
{
    uint64_t wanted = (uint64_t)((double)report->samples * part), seen = 0;
    for (unsigned i = 0; i < sizeof report->histogram / sizeof *report->histogram; i++) {
        seen += report->histogram[i];
        if (seen > wanted) {
            unsigned power = i / STEPS + 5;
            return i < STEPS ? i / 1e3 : (double)((uint64_t)(STEPS + i % STEPS) << (power - 6)) / 1e3;
        }
    }
    return (double)report->longest / 1e3;
}

void report_print(const struct report *report)
{
    double seconds = (double)(report->ended - report->started) / 1e9;
    printf("{\"operations\": %llu, \"bytes\": %llu, \"seconds\": %.6f, ",
           (unsigned long long)report->operations, (unsigned long long)report->bytes, seconds);
    if (report->samples)
        printf("\"p50_us\": %.1f, \"p90_us\": %.1f, \"p99_us\": %.1f, \"max_us\": %.1f, ",
               percentile_us(report, .5), percentile_us(report, .9), percentile_us(report, .99),
               (double)report->longest / 1e3);
    if (report->operations)
        printf("\"lost\": %.4f, ",
               (double)report->lost / (double)(report->lost + report->operations));
    printf("\"server_cpu_seconds\": %.6f, \"load_busy\": %.4f, \"errors\": %llu, "
           "\"first_error\": \"%s\"}\n",
           (double)report->server_cpu / 1e9, (double)report->load_cpu / 1e9 / seconds,
           (unsigned long long)errors, first_error);
}

void error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    if (!errors++)
        vsnprintf(first_error, sizeof first_error, format, arguments);
    va_end(arguments);
}

void die_of_errors(void)
{
    die("every connection was lost; the first: %s", first_error);
}

void die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}
