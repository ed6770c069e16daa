package udp

import (
	"net/netip"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSockaddrRoundTrip(t *testing.T) {
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		var b [nameSpace]byte
		n := putSockaddr(&b, addr(a), 8285)
		if got := getSockaddr(b[:n]); got != addr(a) {
			t.Errorf("%s came back as %v", a, got)
		}
		if got := getSockaddr(b[:n-13]); got != (netip.Addr{}) {
			t.Errorf("%s cut short came back as %v", a, got)
		}
	}
	if got := getSockaddr(make([]byte, nameSpace)); got.IsValid() {
		t.Errorf("another family came back as %v", got)
	}
}

// The kernel's own control messages are read rightly in the tests with real
// sockets; this is about anything else.
func FuzzControl(f *testing.F) {
	var c sendControl
	c.wire(true)
	c.setTOS(3)
	c.setSegment(1472)
	f.Add(c.b[:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		aligned := make([]uint64, len(data)/8+1)
		b := unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), len(aligned)*8)[:len(data)]
		copy(b, data)
		var r received
		r.parse(b)
		if r.segment < 0 && len(data) < cmsgHeaderLen+4 {
			t.Errorf("a segment size out of nothing: %d", r.segment)
		}
		if _, ok := extendedError(b); ok && len(data) < cmsgHeaderLen+int(unsafe.Sizeof(unix.SockExtendedErr{})) {
			t.Error("an error out of nothing")
		}
	})
}

func TestReceivedControl(t *testing.T) {
	var aligned [controlSpace / 8]uint64
	b := unsafe.Slice((*byte)(unsafe.Pointer(&aligned[0])), controlSpace)
	at := 0
	put := func(level, typ int, data ...byte) {
		putCmsgHeader(b[at:], len(data), level, typ)
		copy(b[at+cmsgHeaderLen:], data)
		at += unix.CmsgSpace(len(data))
	}
	put(unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 7, 0, 0, 0)
	put(unix.SOL_IP, unix.IP_TOS, 3)
	put(unix.SOL_UDP, unix.UDP_GRO, 0xc0, 5, 0, 0)
	var r received
	r.parse(b[:at])
	if want := (received{tos: 3, segment: 1472, overflow: 7}); r != want {
		t.Errorf("parsed %+v, want %+v", r, want)
	}
	at = 0
	put(unix.SOL_IPV6, unix.IPV6_TCLASS, 2, 0, 0, 0)
	r.parse(b[:at])
	if want := (received{tos: 2}); r != want {
		t.Errorf("parsed %+v, want %+v", r, want)
	}
}
