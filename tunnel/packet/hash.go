package packet

// FlowHash returns a hash of the packet's flow: addresses, protocol, and for
// TCP and UDP the ports. All fragments of a flow hash alike, but not like its
// whole packets. info is what Parse said about pkt.
func FlowHash(pkt []byte, info *Info) uint32 {
	return 0
}
