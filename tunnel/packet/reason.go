package packet

// Reason says why a packet cannot be used: the index of a drop counter. It is
// not an error, so that the zero value, OK, can never pass for one.
type Reason uint8

const (
	OK           Reason = iota
	Truncated           // shorter than its header or its total length says
	BadVersion          // neither IPv4 nor IPv6
	BadHeader           // header length or extension header chain impossible
	Trailing            // longer than its total length says
	BadVnetHdr          // virtio_net_hdr contradicts the packet, or is of an unknown kind
	DontFragment        // too long for the path, and may not be fragmented
	MTUTooSmall         // no fragment fits the MTU
	NumReasons   = iota // the length of an array of counters
)

var reasonNames = [NumReasons]string{
	OK:           "ok",
	Truncated:    "truncated",
	BadVersion:   "bad_ip_version",
	BadHeader:    "bad_ip_header",
	Trailing:     "trailing_bytes",
	BadVnetHdr:   "bad_vnet_header",
	DontFragment: "dont_fragment",
	MTUTooSmall:  "mtu_too_small",
}

// String returns the reason as a counter's name, for instance "truncated".
func (r Reason) String() string {
	if int(r) >= len(reasonNames) {
		return "unknown"
	}
	return reasonNames[r]
}
