package udp

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

const (
	inside  = "10.5.1.9" // of node 1
	outside = "10.5.2.9" // of its peer
)

// shape is what matters of a message: datagrams and segment size.
func shapes(sent []memSend) (s []string) {
	for _, m := range sent {
		s = append(s, fmt.Sprintf("%dx%d=%d", m.datagram, m.segment, len(m.payload)))
	}
	return s
}

func TestMessages(t *testing.T) {
	small := func(payload int) []byte { return plain(udp4(inside, outside, make([]byte, payload))) }
	marked := small(100)
	marked[packet.VnetHdrLen+1] = packet.ECT0
	fixIPv4(marked[packet.VnetHdrLen:])
	for _, c := range []struct {
		name  string
		input [][]byte
		want  []string // datagrams x segment size = bytes
	}{
		{"one packet", [][]byte{small(100)}, []string{"1x0=128"}},
		{"equal packets", [][]byte{small(100), small(100), small(100)}, []string{"3x128=384"}},
		{"a shorter one ends it", [][]byte{small(100), small(100), small(50), small(50)}, []string{"3x128=334", "1x0=78"}},
		{"a longer one begins another", [][]byte{small(50), small(100)}, []string{"1x0=78", "1x0=128"}},
		{"another mark begins another", [][]byte{small(100), marked, small(100)}, []string{"1x0=128", "1x0=128", "1x0=128"}},
		{"a superpacket", [][]byte{superUDP(inside, outside, 10, 1000)}, []string{"10x1028=10280"}},
		{"even parts", [][]byte{superUDP(inside, outside, 45, 1444)}, []string{"23x1472=33856", "22x1472=32384"}},
		{"no more than the kernel cuts", [][]byte{superUDP(inside, outside, 64, 100)}, []string{"32x128=4096", "32x128=4096"}},
		{"more than at once", [][]byte{superUDP(inside, outside, 200, 100)}, []string{"43x128=5504", "43x128=5504", "42x128=5376", "36x128=4608", "36x128=4608"}},
		{"superpackets join", [][]byte{superUDP(inside, outside, 10, 100), superUDP(inside, outside, 10, 100), small(99)}, []string{"21x128=2687"}},
		{"up to 63", repeated(small(10), 64), []string{"63x38=2394", "1x0=38"}},
		{"up to a datagram's length", repeated(small(1444), 46), []string{"44x1472=64768", "2x1472=2944"}},
		{"more reads than room", repeated(small(1444), 200), []string{
			"44x1472=64768", "20x1472=29440", "44x1472=64768", "20x1472=29440", "44x1472=64768", "20x1472=29440", "8x1472=11776"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			m.send(t, c.input...)
			if got := shapes(m.socket.sent); !slices.Equal(got, c.want) {
				t.Errorf("sent %v\nwant %v", got, c.want)
			}
			packets := 0
			for _, s := range m.socket.sent {
				if s.to != outer(2, false) {
					t.Errorf("sent to %v", s.to)
				}
				packets += s.datagram
			}
			if n := m.peer().State.Tx.Packets.Load(); n != uint64(packets) {
				t.Errorf("peer's counter is %d, want %d", n, packets)
			}
		})
	}
}

func repeated(b []byte, n int) (list [][]byte) {
	for range n {
		list = append(list, b)
	}
	return list
}

// Every kind of refusal, once or forever, of everything or of cutting only.
func TestSendErrors(t *testing.T) {
	input := func() [][]byte {
		return [][]byte{superUDP(inside, outside, 4, 1000), plain(udp4(inside, outside, make([]byte, 1200)))}
	}
	for _, c := range []struct {
		name      string
		errno     unix.Errno
		times     int  // 0: forever
		cutting   bool // only messages of several datagrams
		delivered int
		drops     map[string]uint64
		unbatched bool
	}{
		{"interrupted", unix.EINTR, 1, false, 5, nil, false},
		{"buffer full for a moment", unix.EAGAIN, 1, false, 5, nil, false},
		{"buffer full", unix.EAGAIN, 0, false, 0, map[string]uint64{"tx_socket_full": 5}, false},
		{"queue full for a moment", unix.ENOBUFS, 2, false, 5, nil, false},
		{"queue full", unix.ENOBUFS, 0, false, 0, map[string]uint64{"tx_underlay_queue_full": 5}, false},
		{"an ICMP error about an earlier packet", unix.ECONNREFUSED, 1, false, 5, nil, false},
		{"two of them", unix.EHOSTUNREACH, 2, false, 5, nil, false},
		{"no route", unix.ENETUNREACH, 0, false, 0, map[string]uint64{"tx_underlay_unreachable": 5}, false},
		{"address gone", unix.EINVAL, 0, false, 0, map[string]uint64{"tx_underlay_unreachable": 5}, false},
		{"firewall", unix.EPERM, 0, false, 0, map[string]uint64{"tx_firewall": 5}, false},
		{"too big", unix.EMSGSIZE, 0, false, 0, map[string]uint64{"tx_too_big": 5}, false},
		{"something else", unix.EPROTO, 0, false, 0, map[string]uint64{"tx_send_failed": 5}, false},
		{"no checksum offload", unix.EIO, 0, true, 5, nil, true},
		{"segment exceeds the route's MTU", unix.EMSGSIZE, 0, true, 5, nil, true},
		{"the same before 6.14", unix.EINVAL, 0, true, 5, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			refused := 0
			m.socket.refuse = func(s *memSend) unix.Errno {
				if c.times > 0 && refused == c.times || c.cutting && s.datagram == 1 {
					return 0
				}
				refused++
				return c.errno
			}
			m.send(t, input()...)
			delivered := 0
			for _, s := range m.socket.sent {
				delivered += s.datagram
			}
			if delivered != c.delivered {
				t.Errorf("%d packets sent, want %d: %v", delivered, c.delivered, shapes(m.socket.sent))
			}
			if got := m.drops(); fmt.Sprint(got) != fmt.Sprint(c.drops) {
				t.Errorf("drops %v, want %v", got, c.drops)
			}
			if n := m.peer().State.Tx.Packets.Load(); n != uint64(delivered) {
				t.Errorf("peer's counter is %d, want %d", n, delivered)
			}
			if got := m.peer().State.Unbatched.Get() != 0; got != c.unbatched {
				t.Errorf("unbatched: %v, want %v", got, c.unbatched)
			}
			refused = 0
			m.socket.sent = nil
			m.send(t, input()...)
			if c.unbatched && refused > 0 {
				t.Errorf("cutting was tried again at once")
			}
			if c.unbatched && len(m.socket.sent) != 5 {
				t.Errorf("then sent %v", shapes(m.socket.sent))
			}
			if n := m.logged("cannot send to a peer"); n > 1 {
				t.Errorf("%d lines in the log:\n%s", n, &m.log)
			}
		})
	}
}

// Errors that others sent about earlier packets cost calls, but no packets,
// unless they come without end.
func TestStrayErrors(t *testing.T) {
	for _, c := range []struct{ strays, delivered int }{{20, 1}, {maxStray + maxRetries, 1}, {maxStray + maxRetries + 1, 0}} {
		m := newMemNode(t, 1)
		left := c.strays
		m.socket.errTo = outer(2, false)
		m.socket.refuse = func(*memSend) unix.Errno {
			if left == 0 {
				return 0
			}
			left--
			m.socket.errs = []unix.SockExtendedErr{{Errno: uint32(unix.EHOSTUNREACH), Origin: unix.SO_EE_ORIGIN_ICMP}}
			return unix.EHOSTUNREACH
		}
		m.send(t, plain(udp4(inside, outside, nil)))
		if n := len(m.socket.sent); n != c.delivered {
			t.Errorf("%d errors: %d packets sent, want %d", c.strays, n, c.delivered)
		}
	}
}

// Where a message's datagrams cannot be sent singly either, one shows it: the
// rest costs no system calls.
func TestRefusedIsNotTriedForEach(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EMSGSIZE, unix.EIO} {
		m := newMemNode(t, 1)
		calls := 0
		m.socket.refuse = func(*memSend) unix.Errno { calls++; return errno }
		m.send(t, superUDP(inside, outside, 40, 1000))
		if most := 2 * (1 + maxRetries); calls > most {
			t.Errorf("%v: %d system calls, want at most %d", errno, calls, most)
		}
		sum := uint64(0)
		for _, n := range m.drops() {
			sum += n
		}
		if sum != 40 {
			t.Errorf("%v: drops %v, want 40", errno, m.drops())
		}
	}
}

// After a while cutting is tried again.
func TestUnbatchedLapses(t *testing.T) {
	m := newMemNode(t, 1)
	m.peer().State.Unbatched.Set(1, time.Now().Add(-time.Second))
	m.send(t, superUDP(inside, outside, 4, 1000))
	if got := shapes(m.socket.sent); !slices.Equal(got, []string{"4x1028=4112"}) {
		t.Errorf("sent %v", got)
	}
}

func TestSocketGone(t *testing.T) {
	m := newMemNode(t, 1)
	m.socket.refuse = func(*memSend) unix.Errno { return unix.EBADF }
	m.tun.give(plain(udp4(inside, outside, nil)))
	n, err := m.sender.read()
	check(t, err)
	if err := m.sender.forward(m.sender.packets[:n]); err == nil {
		t.Error("a closed socket is no error")
	}
}
