package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// A UDP flow of very many packets leaves the kernel's way for weftd's, in order, and
// comes back when it is slow. Of its packets each arrives, with a right checksum, or is
// counted where it was lost.
func TestFloods(t *testing.T) { // not in parallel: a flood takes a machine to itself
	c := build(t, onUDP.spec(2, false))
	for i := range c.hosts {
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	a, b := c.hosts[0], c.hosts[1]
	for _, way := range []struct {
		name     string
		from, to *lab.Namespace
		addr     netip.Addr
		size     int  // of the datagrams
		finished bool // are checksums before a card is to do it
	}{
		{"host to host", a.Namespace, b.Namespace, tunnelAddr(b), 64, false},
		{"container to container", a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 64, false},
		{"long datagrams", a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 1400, false},
		{"finished checksums", a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 64, true},
	} {
		t.Run(way.name, func(t *testing.T) {
			if err := a.Container.SetFeatures("eth0", map[string]bool{"tx-checksum-ip-generic": !way.finished}); err != nil {
				t.Fatal(err)
			}
			c.byKernel(0, 1)
			s := c.startStream(way.from, way.to, way.addr, way.size)
			c.floods(t, s)
			c.isSlow(s)
			if n := c.snmp(way.to, "Udp", "InCsumErrors"); n > 0 {
				t.Errorf("%d datagrams with a wrong checksum", n)
			}
		})
	}
}

// In a slot of a flood there are at least so many packets: 240 thousand a second,
// where 200 make a flood and less than 25 end it. Of floodMoves such slots in a row some
// window has enough, wherever windows begin and however uneven the slots are.
const (
	floodTime  = 500 * time.Millisecond
	floodSlot  = 10 * time.Millisecond
	floodSlots = int(floodTime / floodSlot)
	floodLeast = 2400
	floodMoves = 10
	floodStart = 4000 // packets in a window: with the last of them it is a flood

	// floodsDisordered is how many floods may not be out of order. One may, and another:
	// a sender that a busy machine moves to another CPU may overtake itself (see keepsOrder).
	floodsDisordered = 3
)

// floods has a stream be a flood until it was one all the time, which takes a machine
// that is quick enough. Meanwhile it is judged by what it was.
func (c *cluster) floods(t *testing.T, s *stream) {
	t.Helper()
	disordered, little := 0, ""
	for deadline := time.Now().Add(10 * time.Second); ; {
		before, arrived, overtaken, losses := c.sent(0), s.arrived.Load(), s.overtaken.Load(), c.lossesOf(s)
		var offered uint64
		var row int
		var err error
		done := make(chan struct{})
		go func() {
			defer close(done)
			offered, row, err = s.flood()
		}()
		time.Sleep(floodTime / 2)
		why := c.floodStatus(0)
		select {
		case <-done:
			why = "" // of when it was over, maybe
		default:
			<-done
		}
		if err != nil {
			t.Fatal(err)
		}
		c.settled(s)
		c.accounts(t, s, offered, arrived, losses)
		sent := c.sent(0).since(before)
		arrived, overtaken = s.arrived.Load()-arrived, s.overtaken.Load()-overtaken
		t.Logf("%d datagrams in %v, a flood in %d of %d slots in a row: sent %+v; %d arrived, %d were overtaken; %q", offered, floodTime, row, floodSlots, sent, arrived, overtaken, why)
		if row >= floodMoves && sent.user == 0 {
			t.Errorf("all of a flood stayed with the kernel")
		}
		inOrder := overtaken == 0
		if once := sent.kernel < floodStart; !inOrder && (once || row == floodSlots) { // else it may have come back
			if disordered++; disordered == floodsDisordered {
				t.Errorf("in %d floods datagrams were overtaken, in the last one %d", disordered, overtaken)
				return
			}
		}
		if row == floodSlots && inOrder {
			if sent.kernel > offered/2 {
				t.Errorf("of %d datagrams: %+v", offered, sent)
			}
			if why != "" && !strings.Contains(why, ": 1 of at most ") {
				t.Errorf("meanwhile the status said %q", why)
			}
			if sent.user >= offered/10 {
				return
			}
			little = fmt.Sprintf("of %d datagrams weftd sent %d", offered, sent.user) // of others it may
		}
		if time.Now().After(deadline) {
			if little != "" {
				t.Errorf("of no flood that lasted weftd sent a tenth: %s", little)
				return
			}
			t.Log("this machine was too busy for a flood that lasts: whether it stays was not judged")
			return
		}
	}
}

// floodStatus is what a host's weftd says of floods.
func (c *cluster) floodStatus(i int) string {
	for _, f := range c.status(i).Backend.Capabilities {
		if f.Name == "assist_floods" {
			return f.Why
		}
	}
	return "no word of floods"
}

// settled waits until nothing arrives any more: some times in a row, for while the whole
// machine stands still nothing does.
func (c *cluster) settled(s *stream) {
	c.t.Helper()
	c.eventually(func() string {
		n := s.arrived.Load()
		for range 4 {
			time.Sleep(25 * time.Millisecond)
			if s.arrived.Load() != n {
				return "datagrams still arrive"
			}
		}
		return ""
	})
}

// isSlow has a stream be slow, until it is the kernel's.
func (c *cluster) isSlow(s *stream) {
	c.t.Helper()
	const count = 20
	c.eventually(func() string {
		before, arrived := c.sent(0), s.arrived.Load()
		for range count {
			if _, err := s.send(1); err != nil {
				c.t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		c.settled(s)
		if sent, n := c.sent(0).since(before), s.arrived.Load()-arrived; sent.kernel < count || n != count {
			return "of a slow flow's datagrams some were not the kernel's"
		}
		return ""
	})
}

// stream sends numbered datagrams by one socket, many with each call.
type stream struct {
	to       *lab.Namespace
	batch    *ipv4.PacketConn
	messages []ipv4.Message
	number   uint64 // of the last that was sent

	arrived   atomic.Uint64
	overtaken atomic.Uint64 // those that came after one with a higher number
}

const streamBatch = 64

func (c *cluster) startStream(from, to *lab.Namespace, addr netip.Addr, size int) *stream {
	c.t.Helper()
	server, err := to.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		c.t.Fatal(err)
	}
	conn, err := from.Dial(c.t.Context(), net.Dialer{}, "udp4", server.LocalAddr().String())
	if err != nil {
		c.t.Fatal(err)
	}
	s := &stream{to: to, batch: ipv4.NewPacketConn(conn.(*net.UDPConn)), messages: messages(size)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.receive(ipv4.NewPacketConn(server))
	}()
	c.t.Cleanup(func() {
		conn.Close()
		server.Close()
		<-done
	})
	return s
}

func messages(size int) []ipv4.Message {
	list := make([]ipv4.Message, streamBatch)
	for i := range list {
		list[i].Buffers = [][]byte{make([]byte, size)}
	}
	return list
}

// receive counts what arrives until the socket is closed.
func (s *stream) receive(conn *ipv4.PacketConn) {
	list := messages(8) // the number is enough
	for latest := uint64(0); ; {
		n, err := conn.ReadBatch(list, 0)
		if err != nil {
			return
		}
		for _, m := range list[:n] {
			if number := binary.BigEndian.Uint64(m.Buffers[0]); number > latest {
				latest = number
			} else {
				s.overtaken.Add(1)
			}
		}
		s.arrived.Add(uint64(n))
	}
}

// send sends up to streamBatch datagrams, and returns how many the kernel took.
func (s *stream) send(n int) (taken int, err error) {
	for i := range n {
		s.number++
		binary.BigEndian.PutUint64(s.messages[i].Buffers[0], s.number)
	}
	taken, err = s.batch.WriteBatch(s.messages[:n], 0)
	if errors.Is(err, unix.ENOBUFS) {
		err = nil
	}
	return max(taken, 0), err
}

// flood sends for floodTime, and returns how many datagrams the kernel took, and how
// many slots in a row, at most, had as many as are a flood.
func (s *stream) flood() (offered uint64, row int, err error) {
	var slots [floodSlots]int
	for began := time.Now(); ; {
		slot := int(time.Since(began) / floodSlot)
		if slot >= floodSlots {
			break
		}
		n, err := s.send(streamBatch)
		if err != nil {
			return 0, 0, err
		}
		slots[slot] += n
		offered += uint64(n)
	}
	inRow := 0
	for _, n := range slots {
		if inRow++; n < floodLeast {
			inRow = 0
		}
		row = max(row, inRow)
	}
	return offered, row, nil
}
