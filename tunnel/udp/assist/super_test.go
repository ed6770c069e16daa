package assist

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
	"github.com/weftnet/weft/tunnel/probe"
)

// newSuperPair makes two hosts with the assist that know each other, and carry
// superpackets.
func newSuperPair(t *testing.T, mtu int) (a, b *host) {
	t.Helper()
	hosts := newHosts(t, 2, mtu)
	a, b = hosts[0], hosts[1]
	a.meetSuper(b, mtu)
	b.meetSuper(a, mtu)
	return a, b
}

// meetSuper attaches, and knows another host.
func (h *host) meetSuper(o *host, mtu int) {
	h.t.Helper()
	h.super = true
	h.attach(1)
	check(h.t, h.assist.Superpackets())
	peer := h.peer(o)
	peer.Limit = mtu - overhead
	h.set(peer)
	h.assist.SetSuperpackets(subnet(o.number), true)
}

// Trials arrive whole, in user space, and count for nothing.
func TestTrialArrives(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	a.assist.SetSuperpackets(subnet(2), false)
	for _, segments := range []int{2, 45} {
		check(t, a.assist.Try(subnet(1).Addr(), subnet(2), 0x0102030405060708, segments > 2))
		var all [][]byte
		waitFor(t, "the trial in user space", func() bool { all, _ = b.took(); return len(all) > 0 })
		got := all[0]
		var header packet.VnetHdr
		header.Decode(got)
		header.HdrLen = 0 // of what lies in one piece
		if want := (packet.VnetHdr{
			Flags: packet.FlagNeedsCsum, GSOType: packet.GSOTCPv4, GSOSize: 1432, CsumStart: 20, CsumOffset: 16,
		}); header != want {
			t.Errorf("it has the header %+v, want %+v", header, want)
		}
		want := make([]byte, probe.TrialLen(1472, segments))
		probe.BuildTrial(want, subnet(1).Addr(), subnet(2).Addr(), 0x0102030405060708)
		if !bytes.Equal(got[packet.VnetHdrLen:], want) {
			t.Errorf("%d segments: %d bytes, want %d, or other ones", segments, len(got)-packet.VnetHdrLen, len(want))
		}
	}
	for _, h := range []*host{a, b} {
		if tx, rx := h.assist.Traffic(subnet(3 - h.number)); tx != (Count{}) || rx != (Count{}) || h.assist.SuperpacketsSent(subnet(3-h.number)) != 0 {
			t.Errorf("host %d: the trial was counted: sent %v, received %v", h.number, tx, rx)
		}
	}
	a.untouched()
}

// A device that cuts the longest superpackets only, into shorter ones, lets short
// trials through, and what it makes of a full one is no trial.
func TestTrialIsCut(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	a.ip("link", "set", "dev", "eth0", "gso_max_size", "16000")
	for _, full := range []bool{true, false} {
		check(t, a.assist.Try(subnet(1).Addr(), subnet(2), 7, full))
	}
	var all [][]byte
	last := func() []byte { return all[len(all)-1][packet.VnetHdrLen:] }
	waitFor(t, "the short trial", func() bool {
		more, _ := b.took()
		all = append(all, more...)
		return len(all) > 0 && len(last()) == probe.TrialLen(1472, 2)
	})
	if _, ok := probe.ReadTrial(last()); !ok || len(all) < 2 {
		t.Errorf("%d packets, the last of which is no trial", len(all))
	}
	for _, pkt := range all[:len(all)-1] {
		if _, ok := probe.ReadTrial(pkt[packet.VnetHdrLen:]); ok {
			t.Error("a piece is taken for a trial")
		}
	}
}

// A flow that user space carries is the kernel's from its next packet on.
func TestTakeFlows(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	a.assist.SetSuperpackets(subnet(2), false)
	out, in := a.frames("flannel0"), b.frames("flannel0")
	header, pkt := super(1)
	for range 2 {
		out.sendWith(header, pkt)
		waitFor(t, "the superpacket in user space", func() bool { sent, _ := a.took(); return len(sent) == 1 })
		a.assist.SetSuperpackets(subnet(2), true)
	}
	check(t, a.assist.TakeFlows())
	out.sendWith(header, pkt)
	if _, got := in.tcp(0); !bytes.Equal(got, pkt) {
		t.Errorf("%x, want %x", got, pkt)
	}
}

// transfer sends some bytes over TCP, on one CPU, and returns what the kernels say
// of it.
func transfer(t *testing.T, from, to *host, bytes int) (sender, receiver *unix.TCPInfo) {
	t.Helper()
	var l net.Listener
	check(t, to.Do(func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(inner(to.number), 0).String())
		return err
	}))
	defer l.Close()
	type result struct {
		sum  [sha256.Size]byte
		info *unix.TCPInfo
		err  error
	}
	done := make(chan result, 1)
	// What one CPU sends is received by it, in order; from two it may get anywhere in any
	// order, whatever is between.
	go func() {
		var r result
		defer func() { done <- r }()
		if r.err = labtest.OnCPU(0); r.err != nil {
			return
		}
		c, err := l.Accept()
		if r.err = err; err != nil {
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(60 * time.Second))
		hash := sha256.New()
		_, r.err = io.Copy(hash, c)
		hash.Sum(r.sum[:0])
		r.info = tcpInfo(t, c)
	}()
	var c net.Conn
	check(t, from.Do(func() (err error) { c, err = net.DialTimeout("tcp4", l.Addr().String(), 20*time.Second); return err }))
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(60*time.Second)))
	data := make([]byte, bytes)
	rand.NewChaCha8([32]byte{}).Read(data)
	sent := make(chan error, 1)
	go func() {
		err := labtest.OnCPU(0)
		if err == nil {
			_, err = c.Write(data)
		}
		sent <- errors.Join(err, c.(*net.TCPConn).CloseWrite())
	}()
	check(t, <-sent)
	r := <-done
	check(t, r.err)
	// Behind the receiver's end comes nothing, and it was acknowledged.
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if r.sum != sha256.Sum256(data) {
		t.Error("other bytes arrived")
	}
	return tcpInfo(t, c), r.info
}

func tcpInfo(t *testing.T, c net.Conn) (info *unix.TCPInfo) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { info, _ = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	}
	if err != nil {
		t.Error(err)
	}
	return info
}

// A bulk transfer goes by the kernels alone, in superpackets; none is lost, and
// nothing overtakes.
func TestBulk(t *testing.T) {
	t.Parallel()
	check(t, labtest.Lossless(t, func() error { return goesWhole(t) }))
}

// goesWhole has an error if something was lost.
func goesWhole(t *testing.T) error {
	t.Helper()
	a, b := newSuperPair(t, 1500)
	const size = 50_000_000
	sender, receiver := transfer(t, a, b, size)
	// Behind one that is lost the others are out of order, too. Retransmissions do not
	// tell: TCP probes for lost ends (RFC 8985) when a process is kept waiting.
	if receiver.Rcv_ooopack != 0 {
		return fmt.Errorf("%d segments were received out of order", receiver.Rcv_ooopack)
	}
	a.untouched()
	b.untouched()
	supers := a.assist.SuperpacketsSent(subnet(2))
	tx, _ := a.assist.Traffic(subnet(2))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		_, rx := b.assist.Traffic(subnet(1))
		if rx == tx {
			break
		}
		if time.Now().After(deadline) { // the last segment, or one sent again at the end
			return fmt.Errorf("sent %v, received %v", tx, rx)
		}
	}
	if n := uint64(sender.Segs_out); tx.Packets != n || tx.Bytes < size+52*n || tx.Bytes > size+60*n || supers < 100 || supers > n/4 {
		t.Errorf("sent %v, of which %d superpackets; TCP has sent %d segments", tx, supers, n)
	}
	if a.assist.Drops()+b.assist.Drops() != 0 {
		t.Error("something was dropped")
	}
	return nil
}
