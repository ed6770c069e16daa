package udp

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// transferSize is how much TCP carries in each direction, in bytes.
const transferSize = 64 << 20

func TestTransfer(t *testing.T) {
	for _, outer6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("outer IPv%d", version(outer6)), func(t *testing.T) {
			a, b := newPair(t, setup{outer6: outer6})
			for _, inner6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("inner IPv%d", version(inner6)), func(t *testing.T) {
					ping(t, a, b.inner(inner6))
					ping(t, b, a.inner(inner6))
					exchangeUDP(t, a, b, inner6)
					transferTCP(t, a, b, inner6, transferSize)
					transferTCP(t, b, a, inner6, transferSize)
				})
			}
			for _, n := range []*node{a, b} {
				wantOffloads(t, n)
				check(t, n.Health())
				for reason, packets := range n.drops() {
					if reason != "tx_not_unicast" {
						t.Errorf("%d packets dropped as %s", packets, reason)
					}
				}
				p := n.Status().Peers[0]
				if p.TxBytes < transferSize || p.RxBytes < transferSize {
					t.Errorf("peer's counters: %+v", p)
				}
			}
		})
	}
}

// Each missing capability costs speed and nothing else.
func TestTransferDegraded(t *testing.T) {
	for name, disable := range map[string][]Feature{
		"no vnet_hdr":    {VnetHdr},
		"no tso":         {TSO},
		"no uso":         {USO, TUNGROUDP},
		"no tun_gro":     {TUNGRO, TUNGROUDP},
		"no udp_segment": {UDPSegment},
		"no udp_gro":     {UDPGRO},
		"nothing":        Features,
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPair(t, setup{disable: disable})
			for _, inner6 := range []bool{false, true} {
				exchangeUDP(t, a, b, inner6)
				transferTCP(t, a, b, inner6, 4<<20)
			}
			for _, c := range a.Status().Capabilities {
				for _, f := range disable {
					if c.Name == string(f) && (c.On || c.Why != "disabled") {
						t.Errorf("capability %+v", c)
					}
				}
			}
		})
	}
}

// wantOffloads fails if superpackets, cutting and joining fell back silently.
func wantOffloads(t *testing.T, n *node) {
	t.Helper()
	for _, c := range n.Status().Capabilities {
		if f := Feature(c.Name); !c.On && f != Assist && f != AssistGSO && f != AssistFloods {
			t.Errorf("%s is off: %s", c.Name, c.Why)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for what, c := range map[string]*ioCount{
		"packets read from the TUN at once":  &n.workers[0].sender.counters.in,
		"datagrams of a send":                &n.workers[0].sender.counters.out,
		"datagrams of a receive":             &n.workers[0].receivers[0].counters.in,
		"packets written to the TUN at once": &n.workers[0].receivers[0].deliver.counters.out,
	} {
		// Data one way and bare acknowledgements the other.
		messages, packets := c.messages.Load(), c.packets.Load()
		average := float64(packets) / float64(max(messages, 1))
		t.Logf("%s: %.1f (%d calls, %d messages, %d packets)", what, average, c.calls.Load(), messages, packets)
		if average < 4 {
			t.Errorf("%s: %.1f", what, average)
		}
	}
}

func version(ipv6 bool) int {
	if ipv6 {
		return 6
	}
	return 4
}

// transferTCP sends random bytes from one node's tunnel address to the
// other's, and compares hashes.
func transferTCP(t *testing.T, from, to *node, ipv6 bool, size int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	l, err := to.Listen(ctx, net.ListenConfig{}, "tcp", netip.AddrPortFrom(to.inner(ipv6), 0).String())
	check(t, err)
	defer l.Close()
	type result struct {
		sum [sha256.Size]byte
		err error
	}
	got := make(chan result, 1)
	go func() {
		got <- func() (r result) {
			c, err := l.Accept()
			if err != nil {
				return result{err: err}
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(time.Minute))
			h := sha256.New()
			if n, err := io.Copy(h, c); err != nil || n != size {
				return result{err: fmt.Errorf("received %d bytes of %d, %v", n, size, err)}
			}
			return result{sum: [sha256.Size]byte(h.Sum(nil))}
		}()
	}()
	c, err := from.Dial(ctx, net.Dialer{}, "tcp", l.Addr().String())
	check(t, err)
	h := sha256.New()
	random := rand.NewChaCha8([32]byte{1})
	_, err = io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(c, h)}, io.LimitReader(random, size), make([]byte, 1<<18))
	err = errors.Join(err, c.Close())
	r := <-got
	if err = errors.Join(err, r.err); err != nil {
		t.Fatal(err)
	}
	if want := h.Sum(nil); !bytes.Equal(r.sum[:], want) {
		t.Fatalf("received other bytes: %x, want %x", r.sum, want)
	}
}

// patience is how long a test waits for a single packet, in seconds too many for any
// machine, before it is lost.
const patience = 20 * time.Second

// exchangeUDP echoes datagrams of many lengths, up to some that IP fragments.
func exchangeUDP(t *testing.T, a, b *node, ipv6 bool) {
	t.Helper()
	check(t, labtest.Lossless(t, func() error {
		server, client := listenUDP(t, b, b.inner(ipv6)), listenUDP(t, a, a.inner(ipv6))
		defer server.Close()
		defer client.Close()
		to := net.UDPAddrFromAddrPort(server.LocalAddr().(*net.UDPAddr).AddrPort())
		for _, size := range []int{0, 1, 2, 100, 1300, 1424, 1444, 1445, 2000, 8000, 60000} {
			sent := bytes.Repeat([]byte{byte(size), byte(size >> 8)}, size)[:size]
			_, err := client.WriteTo(sent, to)
			check(t, err)
			back, err := receives(t, server, sent)
			if err != nil {
				return err
			}
			_, err = server.WriteTo(sent, back)
			check(t, err)
			if _, err := receives(t, client, sent); err != nil {
				return fmt.Errorf("on the way back %w", err)
			}
		}
		return nil
	}))
}

// receives waits for a datagram, which must be the wanted one, and returns its sender. It
// is an error if none arrives.
func receives(t *testing.T, to net.PacketConn, want []byte) (sender net.Addr, err error) {
	t.Helper()
	to.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	n, sender, err := to.ReadFrom(buf)
	if err != nil {
		return nil, fmt.Errorf("%d bytes did not arrive: %w", len(want), err)
	}
	if !bytes.Equal(buf[:n], want) {
		t.Fatalf("%d bytes arrived as %d", len(want), n)
	}
	return sender, nil
}

// listenUDP opens a UDP socket on an address of the node.
func listenUDP(t *testing.T, n *node, on netip.Addr) net.PacketConn {
	t.Helper()
	c, err := n.ListenPacket(t.Context(), net.ListenConfig{}, "udp", netip.AddrPortFrom(on, 0).String())
	check(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return c
}

// ping has a kernel answer an ICMP echo.
func ping(t *testing.T, from *node, to netip.Addr) {
	t.Helper()
	network, protocol := "ip4:icmp", 1
	request, reply := icmp.Type(ipv4.ICMPTypeEcho), icmp.Type(ipv4.ICMPTypeEchoReply)
	if to.Is6() {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	c, err := from.ListenPacket(t.Context(), net.ListenConfig{}, network, from.inner(to.Is6()).String())
	check(t, err)
	defer c.Close()
	m := icmp.Message{Type: request, Body: &icmp.Echo{ID: 4711, Seq: 1, Data: []byte("weft")}}
	b, err := m.Marshal(nil) // the kernel adds the ICMPv6 checksum
	check(t, err)
	buf := make([]byte, 1500)
	check(t, labtest.Lossless(t, func() error {
		_, err := c.WriteTo(b, &net.IPAddr{IP: to.AsSlice()})
		check(t, err)
		for c.SetReadDeadline(time.Now().Add(patience)); ; {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return fmt.Errorf("no answer to a ping: %w", err)
			}
			m, err := icmp.ParseMessage(protocol, buf[:n])
			check(t, err)
			if echo, ok := m.Body.(*icmp.Echo); ok && m.Type == reply && echo.ID == 4711 {
				return nil
			}
		}
	}))
}
