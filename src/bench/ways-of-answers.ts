/** The section of docs/benchmarks.md about how answers are carried, and why so. */
export const WAYS_OF_ANSWERS = `## Ways of answers

An answer can be redirected into the client's socket by the kernel, or be carried by the agent (read from the server's
connection, written to the client's). \`sidestep bench --suite answers\` compares the two for answers of several kinds. What was
chosen, and the figures that it follows from (requests a second at one connection, two busy cores; what matters is how they
compare):

| answer | redirected | by the agent | chosen |
| --- | ---: | ---: | --- |
| 64 KiB | 6,600 | 710 | redirect |
| 256 KiB, beyond the client's receive buffer | 167 | 845 | the agent; its writes let the buffer grow |
| 256 KiB, into a buffer that has grown | 1,610 | 620 | redirect |
| 1000 KiB, beyond the buffer | 14 | 190 | the agent |
| 1000 KiB, into a buffer that has grown | 360 to 850 | 150 | redirect |
| from socket to socket, 1000 KiB | 990 | 160 | redirect, up to 256 KiB or what the buffer takes |
| unknown length, over 4 KiB | (spurious EAGAIN in blocking calls) | carried | the agent |
| head that grows by edits | (through a dummy socket) | carried | redirect, by way of the dummy socket |

**A pump in native code** was tried as a forwarder of its own between wrk and nginx (epoll, 64 KiB a read), beside the same in
TypeScript as the agent has it, three rounds on a busy machine. Answers of 200 bytes: no clear winner (1,200 to 10,500 against 1,460
to 15,800 requests a second, 12 to 65 us of CPU against 22 to 133). 64 KiB: 1.2 to 2.3 times the throughput, 0.25 to 0.55 of the
CPU. 1000 KiB: 1.1 to 2.7 times the throughput, 0.3 to 0.45 of the CPU. Since long answers of known length are redirected as soon as their
client has shown that it reads, what would gain are long answers of unknown length. The pump is not built: it needs a compiled
library for each platform, whose threads share the agent's sockets with Node.
`;
