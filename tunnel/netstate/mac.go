package netstate

import (
	"fmt"
	"net"
)

// MAC is an Ethernet address; the zero MAC stands for none.
type MAC [6]byte

// ParseMAC reads a MAC as "02:1a:2b:3c:4d:5e" or in another spelling that
// net.ParseMAC takes, and accepts only what a single device can have.
func ParseMAC(s string) (MAC, error) {
	b, err := net.ParseMAC(s)
	if err != nil || len(b) != len(MAC{}) {
		return MAC{}, fmt.Errorf("%q is not a MAC address such as 02:1a:2b:3c:4d:5e", s)
	}
	m := MAC(b)
	if m == (MAC{}) || m.multicast() {
		return MAC{}, fmt.Errorf("the MAC address %v is not one of a single device", m)
	}
	return m, nil
}

func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// multicast: the lowest bit of the first byte (IEEE 802, I/G bit); so is
// broadcast.
func (m MAC) multicast() bool { return m[0]&1 != 0 }

// macOf converts; the zero MAC for an address of another length.
func macOf(a net.HardwareAddr) MAC {
	if len(a) != len(MAC{}) {
		return MAC{}
	}
	return MAC(a)
}
