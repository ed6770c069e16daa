// Package packet is the pure packet logic of the tunnel: it reads, segments,
// coalesces and rewrites inner IPv4 and IPv6 packets. It holds no descriptors
// and starts no goroutines, and what runs per packet does not allocate.
//
// Words used throughout:
//
//   - packet: one IP packet, of at most 65,535 bytes.
//   - superpacket: one IP packet whose payload is that of many, with a
//     virtio_net_hdr saying how to cut it (TSO and USO in the kernel's words).
//   - segment: one packet cut out of a superpacket.
//   - run: consecutive packets of one flow that fit one superpacket.
//   - piece: a slice of bytes; several in a row, gathered, make a packet.
//
// A packet's way out is Info.Parse, Segmenter.Load, Segmenter.Next; its way in
// is Info.Parse, ECNDecap, SetTOS, Coalescer.Add, Coalescer.Next.
package packet
