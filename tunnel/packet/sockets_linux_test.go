package packet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// wire carries packets from one TUN to another as the engine does over UDP:
// cut up, checked, and coalesced over several reads.
type wire struct {
	from, to *tun
	cut      map[uint8]int // superpackets read, by GSO type
	joined   map[uint8]int // superpackets written, by GSO type
	upset    *upset        // what befalls packets in between, or nil
}

// run carries until the read deadline of the first TUN has passed. It collects
// up to eight reads before it writes.
func (w *wire) run() error {
	s, c := NewSegmenter(128), NewCoalescer(1024)
	c.Enable(true, true)
	for {
		h, pkt, err := w.from.read()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		for n := 1; err == nil; n++ {
			if err := w.addCut(s, c, h, pkt); err != nil {
				return err
			}
			if n == 8 {
				break
			}
			h, pkt, err = w.from.readNow()
		}
		if err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		var r Run
		for c.Next(&r) {
			var h VnetHdr
			h.Decode(r.Pieces[0])
			w.joined[h.GSOType]++
			if err := w.to.write(&r); err != nil {
				return fmt.Errorf("write a run of %d packets, %+v: %w", r.Packets, h, err)
			}
		}
		c.Reset()
	}
}

// addCut cuts up what the kernel gave out and coalesces the packets.
func (w *wire) addCut(s *Segmenter, c *Coalescer, h VnetHdr, pkt []byte) error {
	var info Info
	if r := info.Parse(pkt); r != OK {
		return fmt.Errorf("parse what the kernel gave out: %v", r)
	}
	if r := s.Load(h, pkt, &info); r != OK {
		return fmt.Errorf("load what the kernel gave out, %+v: %v", h, r)
	}
	w.cut[h.GSOType]++
	var segs Segments
	for s.Next(&segs) {
		for i := range segs.Count {
			p := bytes.Join(segs.Slice(i, i+1), nil)
			if r := info.Parse(p); r != OK {
				return fmt.Errorf("parse a segment: %v", r)
			}
			if len(p) > 1500 {
				return fmt.Errorf("a segment of %d bytes", len(p))
			}
			if hasPorts(info.Protocol) && slowTransportSum(p, info.Protocol, info.Transport) != 0xffff {
				return fmt.Errorf("a segment with a wrong checksum: % x", p[:60])
			}
			for _, p := range w.upset.fate(p, &info) {
				if r := info.Parse(p); r != OK {
					return fmt.Errorf("parse a segment: %v", r)
				}
				if !c.Add(p, &info) {
					return errors.New("the Coalescer is full")
				}
			}
		}
	}
	return nil
}

// pair makes two namespaces whose TUNs are wired to each other; upsets, if
// there are any, are those of each direction. stop ends the wires and returns
// them.
func pair(t *testing.T, upsets ...*upset) (a, b *lab.Namespace, stop func() []*wire) {
	t.Helper()
	a, b = labtest.Namespace(t, "a"), labtest.Namespace(t, "b")
	ta := openTUN(t, a, "tun0", offloads, "10.77.0.1/24", "fd77::1/64")
	tb := openTUN(t, b, "tun0", offloads, "10.77.0.2/24", "fd77::2/64")
	wires := []*wire{
		{from: ta, to: tb, cut: map[uint8]int{}, joined: map[uint8]int{}},
		{from: tb, to: ta, cut: map[uint8]int{}, joined: map[uint8]int{}},
	}
	for i, u := range upsets {
		wires[i].upset = u
	}
	done := make(chan error, len(wires))
	for _, w := range wires {
		go func() { done <- w.run() }()
	}
	stopped := false
	stop = func() []*wire {
		if stopped {
			return wires
		}
		stopped = true
		now := time.Now()
		ta.f.SetReadDeadline(now)
		tb.f.SetReadDeadline(now)
		for range wires {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		return wires
	}
	t.Cleanup(func() { stop() })
	return a, b, stop
}

// counter reads a counter of the namespace from a file of /proc/net whose lines
// come in pairs, of names and of values.
func counter(t *testing.T, ns *lab.Namespace, file, proto, name string) (value string) {
	t.Helper()
	text, err := ns.Output("cat", "/proc/thread-self/net/"+file)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case fields[0] != proto+":":
		case names == nil:
			names = fields
		default:
			if i := slices.Index(names, name); i >= 0 {
				return fields[i]
			}
		}
	}
	t.Fatalf("no %s %s", proto, name)
	return ""
}

// knock sends datagrams of one byte until the first arrives: the kernel may
// drop some right after addresses were added. The server then has 10 seconds.
func knock(t *testing.T, from *lab.Namespace, server net.PacketConn) {
	t.Helper()
	var conn net.Conn
	if err := from.Do(func() (err error) { conn, err = net.Dial("udp", server.LocalAddr().String()); return }); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline := time.Now().Add(10 * time.Second)
	for buf := make([]byte, 1); time.Now().Before(deadline); {
		if _, err := conn.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		server.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, _, err := server.ReadFrom(buf); err == nil {
			server.SetReadDeadline(time.Now().Add(10 * time.Second))
			return
		}
	}
	t.Fatal("no datagram arrives")
}

// connectTCP connects two namespaces, for half a minute.
func connectTCP(t *testing.T, from, to *lab.Namespace, addr string) (client, server net.Conn) {
	t.Helper()
	var l net.Listener
	if err := to.Do(func() (err error) { l, err = net.Listen("tcp", addr); return }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := from.Do(func() (err error) {
		client, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		return
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	for _, conn := range []net.Conn{client, server} {
		conn.SetDeadline(time.Now().Add(30 * time.Second))
	}
	return client, server
}

// Kernel TCP talks to kernel TCP through Segmenter and Coalescer.
func TestKernelTCP(t *testing.T) {
	for name, c := range map[string]struct {
		addr string
		gso  uint8
	}{"IPv4": {"10.77.0.2:0", GSOTCPv4}, "IPv6": {"[fd77::2]:0", GSOTCPv6}} {
		t.Run(name, func(t *testing.T) {
			a, b, stop := pair(t)
			client, server := connectTCP(t, a, b, c.addr)
			data := bytesOf(8 << 20)
			sent := make(chan error, 1)
			go func() {
				_, err := client.Write(data)
				sent <- errors.Join(err, client.(*net.TCPConn).CloseWrite())
			}()
			sum := sha256.New()
			if n, err := io.Copy(sum, server); err != nil || n != int64(len(data)) {
				t.Fatalf("%d bytes arrived: %v", n, err)
			}
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			if [32]byte(sum.Sum(nil)) != sha256.Sum256(data) {
				t.Error("other bytes arrived")
			}
			if n := counter(t, b, "snmp", "Tcp", "InCsumErrors"); n != "0" {
				t.Errorf("%s wrong checksums", n)
			}
			// TCP would hide a lost or a misplaced packet.
			if n := counter(t, b, "netstat", "TcpExt", "TCPOFOQueue"); n != "0" {
				t.Errorf("%s packets arrived out of order", n)
			}
			w := stop()[0]
			if w.cut[c.gso] < 10 || w.joined[c.gso] < 10 {
				t.Errorf("superpackets read %v, written %v, by GSO type", w.cut, w.joined)
			}
		})
	}
}

// Datagrams sent with UDP_SEGMENT, and with single sends, arrive each for
// itself, with the right bytes.
func TestKernelUDP(t *testing.T) {
	for name, addr := range map[string]string{"IPv4": "10.77.0.2:0", "IPv6": "[fd77::2]:0"} {
		t.Run(name, func(t *testing.T) {
			a, b, stop := pair(t)
			var server net.PacketConn
			if err := b.Do(func() (err error) { server, err = net.ListenPacket("udp", addr); return }); err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			knock(t, a, server)
			const size, count = 1000, 20
			last := []byte("the last one is shorter")
			data := append(bytesOf(size*count), last...)
			segmented := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
				c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT, size) })
				return
			}}
			for i, dialer := range []net.Dialer{segmented, {}} {
				if err := a.Do(func() error {
					conn, err := dialer.DialContext(context.Background(), "udp", server.LocalAddr().String())
					if err != nil {
						return err
					}
					defer conn.Close()
					if i == 0 {
						_, err = conn.Write(data)
						return err
					}
					for rest := data; len(rest) > 0 && err == nil; rest = rest[min(size, len(rest)):] {
						_, err = conn.Write(rest[:min(size, len(rest))])
					}
					return err
				}); err != nil {
					t.Fatal(err)
				}
				buf := make([]byte, 65536)
				for j := range count + 1 {
					n, err := 1, error(nil)
					for n == 1 && err == nil { // a late knock
						n, _, err = server.ReadFrom(buf)
					}
					if err != nil {
						t.Fatalf("datagram %d: %v", j, err)
					}
					if want := data[j*size : min((j+1)*size, len(data))]; !bytes.Equal(buf[:n], want) {
						t.Fatalf("datagram %d: %d bytes, want %d", j, n, len(want))
					}
				}
			}
			w := stop()[0]
			if w.cut[GSOUDPL4] != 1 || w.joined[GSOUDPL4] == 0 {
				t.Errorf("superpackets read %v, written %v, by GSO type", w.cut, w.joined)
			}
		})
	}
}
