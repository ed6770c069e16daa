// Package assist has the kernel carry what it carries better than user space:
// eBPF programs, one where packets leave the TUN and one where datagrams enter
// from the underlay, move packets between the two without waking anyone. The
// engine goes on as it does without them.
//
// # What goes which way
//
// Packets that are not superpackets are the kernel's. So are TCP superpackets, to
// a peer that they reach whole (SetSuperpackets). Where something on the way cuts
// them they are better off in user space, whose bulk rate is then the higher one,
// as all UDP superpackets are. With a superpacket in user space goes its whole flow
// until it has been silent for 100 ms: it does not move to the faster way while its
// packets may still be on the slower one. Those that the kernel leaves to user
// space one by one, as it does while it asks for a neighbour's address, and
// fragments, may be overtaken.
//
// A UDP flow of 200 thousand packets a second, a flood, is left to user space, too,
// which carries more of them, in batches: until it has less than 25 thousand, and only
// so many floods at a time as Config.Floods says. Its packets are not sent by the TUN
// but wait in memory that is shared with user space (Rings). When it ends, or begins to
// send superpackets, its last packets in user space may be overtaken.
//
// A program that does not see that a packet is plainly its own leaves it as it
// is. Then it goes to user space, which knows what to do with anything. Only
// after headers were added is there no way back (Drops).
//
// # Superpackets
//
// A superpacket remembers that it is to be cut behind the tunnel's headers, even
// when a program has taken those away, and the next one to cut or forward it would
// go wrong. Only a tunnel device's receive path ends that. So TCP superpackets make
// a detour: the ingress program makes VXLAN-GPE of them and hands them to the
// device weft-gso of this host, by lo, marked with a number that only this Assist
// knows; the device's program hands on what has the mark and drops all else. Other
// TCP packets of such a flow make the detour, too, until it had none for 100 ms, so
// that they do not pass by its superpackets. While the device is not there, or
// nothing listens on its port, all of these are left to user space. Heal makes it
// anew. It goes with the TUN, at the latest.
//
// Whether superpackets reach a peer whole a trial tells (Try; see package probe):
// it leaves by the TUN with the mark, which lets it pass to any peer, and at the
// other end the device's program has it leave by the TUN, where user space reads
// it whole and answers. In pieces it gets to the host's TCP, which does not. Trials
// are in no counters.
//
// # The wire
//
// The format is that of the engine: an inner IPv4 packet in a UDP datagram
// without any header between them; the outer packet has DF, TTL 64, the ECN
// field of the inner one (RFC 6040, normal mode) and no DSCP. Only the UDP
// checksum differs: it is 0, as RFC 768 allows on IPv4, for the inner packet's
// checksum may be yet to be filled in by a network card. That is also what tells
// the kernel's datagrams from user space's, which may belong to a superpacket:
// the receiving side's kernel takes none that has a checksum.
//
// A datagram that the receiving side's kernel leaves alone, for one that met
// congestion, ends at the socket: the engine there has to know that the inner
// checksum may be unfinished, which flannel's does not. So a peer is given with
// its Public address only if it announced that it has the assist, too.
//
// # What it goes past
//
// The datagrams are on no socket's way: netfilter does not see the outer
// packets, nor does IPsec (see IPsec); and the TUN's and the socket's counters do
// not have what is in Traffic. Of a flow's datagrams a stateful firewall sees
// those that user space sends and receives, and no others.
//
// # The code
//
// The programs are written with package asm, so that neither building nor
// running weft takes a compiler. Each function emits one check or step, with
// what it would be in C. They call helpers that the kernel keeps for programs
// under a licence compatible with the GPL, so egress.go, encap.go, ingress.go,
// detour.go, arrival.go, superpacket.go, flow.go, flood.go, toring.go and asm.go may be
// used under the GNU General Public License, version 2, as well.
package assist
