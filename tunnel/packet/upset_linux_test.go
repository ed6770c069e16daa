package packet

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// upset loses, repeats, holds back and marks packets on their way between the
// TUNs of two kernels.
type upset struct {
	rnd  *rand.Rand
	held []byte // to go after so many others
	wait int

	seen                                   uint8 // TCP flags, of all packets; read at the end
	passed, lost, repeated, delayed, marks atomic.Int64
}

// oneOf is how rare each disturbance is.
const oneOf = 800

// fate is what arrives in the place of a packet. A nil upset changes nothing,
// and none what kernels say of their own accord.
func (u *upset) fate(p []byte, info *Info) (arrive [][]byte) {
	if u == nil || !hasPorts(info.Protocol) {
		return [][]byte{p}
	}
	defer u.passed.Add(1)
	if info.Protocol == ProtoTCP {
		u.seen |= p[info.Transport+tcpFlags]
	}
	switch u.rnd.IntN(oneOf) {
	case 0:
		u.lost.Add(1)
	case 1:
		u.repeated.Add(1)
		arrive = append(arrive, p, p)
	case 2:
		if u.held == nil {
			u.delayed.Add(1)
			u.held, u.wait = p, 3
			break
		}
		arrive = append(arrive, p)
	case 3:
		if info.TOS&CE != 0 { // its sender understands marks
			u.marks.Add(1)
			SetTOS(p, info.TOS|CE)
		}
		arrive = append(arrive, p)
	default:
		arrive = append(arrive, p)
	}
	if u.held != nil {
		if u.wait--; u.wait < 0 {
			arrive = append(arrive, u.held)
			u.held = nil
		}
	}
	return arrive
}

func upsets() []*upset {
	return []*upset{{rnd: rand.New(rand.NewPCG(1, 1))}, {rnd: rand.New(rand.NewPCG(2, 2))}}
}

// Kernel TCP talks to kernel TCP over a way that disturbs it, with ECN, urgent
// data and writes of odd lengths: what arrives is what was sent, and no packet
// has a wrong checksum for the kernel.
func TestKernelTCPOverABadWay(t *testing.T) {
	for name, addr := range map[string]string{"IPv4": "10.77.0.2:0", "IPv6": "[fd77::2]:0"} {
		t.Run(name, func(t *testing.T) {
			u := upsets()
			a, b, stop := pair(t, u...)
			for _, ns := range []*lab.Namespace{a, b} {
				if err := ns.Sysctl("net/ipv4/tcp_ecn", "1"); err != nil {
					t.Fatal(err)
				}
				// A SYN that is sent again asks for ECN, too.
				if err := ns.Sysctl("net/ipv4/tcp_ecn_fallback", "0"); err != nil {
					t.Fatal(err)
				}
			}
			client, server := connectTCP(t, a, b, addr)
			if err := control(server, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1)
			}); err != nil {
				t.Fatal(err)
			}
			data := bytesOf(12 << 20)
			sent := make(chan error, 1)
			go func() { sent <- sendOddly(client, data) }()
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
			for _, ns := range []*lab.Namespace{a, b} {
				if n := counter(t, ns, "snmp", "Tcp", "InCsumErrors"); n != "0" {
					t.Errorf("%s wrong checksums", n)
				}
				if n := counter(t, ns, "snmp", "Ip", "InHdrErrors"); n != "0" {
					t.Errorf("%s wrong IP headers", n)
				}
			}
			w := stop()[0]
			t.Logf("%d packets: %d lost, %d repeated, %d delayed, %d marked; superpackets read %v, written %v",
				u[0].passed.Load(), u[0].lost.Load(), u[0].repeated.Load(), u[0].delayed.Load(), u[0].marks.Load(), w.cut, w.joined)
			if u[0].lost.Load() == 0 || u[0].repeated.Load() == 0 || u[0].delayed.Load() == 0 || u[0].marks.Load() == 0 {
				t.Error("the way was not bad")
			}
			if want := uint8(tcpPSH | tcpFIN | tcpURG | tcpCWR); u[0].seen&want != want {
				t.Errorf("TCP flags %#02x, want %#02x", u[0].seen, want)
			}
			if gso := max(w.joined[GSOTCPv4], w.joined[GSOTCPv6]); gso < 10 {
				t.Errorf("superpackets written: %v", w.joined)
			}
		})
	}
}

// sendOddly sends data in parts of odd lengths, the last byte of some as urgent.
func sendOddly(c net.Conn, data []byte) error {
	rnd := rand.New(rand.NewPCG(3, 3))
	for len(data) > 0 {
		part := data[:min(1+2*rnd.IntN(50_000), len(data))]
		data = data[len(part):]
		if rnd.IntN(40) > 0 { // urgent data keeps TCP from making superpackets
			if _, err := c.Write(part); err != nil {
				return err
			}
			continue
		}
		last := len(part) - 1
		if _, err := c.Write(part[:last]); err != nil {
			return err
		}
		raw, err := c.(syscall.Conn).SyscallConn()
		if err != nil {
			return err
		}
		var sendErr error
		if err := raw.Write(func(fd uintptr) bool {
			sendErr = unix.Sendto(int(fd), part[last:], unix.MSG_OOB, nil)
			return !errors.Is(sendErr, unix.EAGAIN)
		}); err != nil || sendErr != nil {
			return errors.Join(err, sendErr)
		}
	}
	return c.(*net.TCPConn).CloseWrite()
}

// UDP over such a way: each datagram that arrives is one that was sent, and none
// is missing that was not lost.
func TestKernelUDPOverABadWay(t *testing.T) {
	for name, addr := range map[string]string{"IPv4": "10.77.0.2:0", "IPv6": "[fd77::2]:0"} {
		t.Run(name, func(t *testing.T) {
			u := upsets()
			a, b, stop := pair(t, u...)
			var server net.PacketConn
			if err := b.Do(func() (err error) { server, err = net.ListenPacket("udp", addr); return }); err != nil {
				t.Fatal(err)
			}
			defer server.Close()
			if err := control(server, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20)
			}); err != nil {
				t.Fatal(err)
			}
			knock(t, a, server)
			const size, each, batches = 777, 40, 100
			datagram := func(n int) []byte { return bytes.Repeat([]byte{byte(n), byte(n >> 8), 1 + byte(n%7)}, size/3) }
			var conn net.Conn
			if err := a.Do(func() (err error) {
				conn, err = (&net.Dialer{}).DialContext(context.Background(), "udp", server.LocalAddr().String())
				return err
			}); err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if err := control(conn, func(fd int) error {
				return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
			}); err != nil {
				t.Fatal(err)
			}
			passed := u[0].passed.Load()
			before := u[0].lost.Load() - u[0].repeated.Load() // of the knocks
			for i := range batches {
				var superpacket []byte
				for j := range each {
					superpacket = append(superpacket, datagram(i*each+j)...)
				}
				if i%2 == 1 { // and one of an odd length at the end
					superpacket = superpacket[:len(superpacket)-2]
				}
				if _, err := conn.Write(superpacket); err != nil {
					t.Fatal(err)
				}
				for deadline := time.Now().Add(10 * time.Second); u[0].passed.Load() < passed+int64((i+1)*each); {
					if time.Now().After(deadline) {
						t.Fatalf("batch %d does not come out of the TUN", i)
					}
					time.Sleep(100 * time.Microsecond)
				}
			}
			w := stop()[0]
			if u[0].held != nil {
				before--
			}
			want := batches*each - int(u[0].lost.Load()-u[0].repeated.Load()-before)
			got := 0
			buf := make([]byte, 65536)
			for server.SetReadDeadline(time.Now().Add(10 * time.Second)); got < want; {
				n, _, err := server.ReadFrom(buf)
				if err != nil {
					t.Fatalf("%d datagrams arrived, want %d: %v", got, want, err)
				}
				if n == 1 { // a late knock
					continue
				}
				number := int(buf[0]) + int(buf[1])<<8
				whole := datagram(number)
				if number%(2*each) == 2*each-1 {
					whole = whole[:size-2]
				}
				if number >= batches*each || !bytes.Equal(buf[:n], whole) {
					t.Fatalf("%d bytes, % x …", n, buf[:min(n, 6)])
				}
				got++
			}
			t.Logf("%d datagrams: %d lost, %d repeated, %d delayed; superpackets read %v, written %v",
				batches*each, u[0].lost.Load(), u[0].repeated.Load(), u[0].delayed.Load(), w.cut, w.joined)
			if u[0].lost.Load() == 0 || u[0].repeated.Load() == 0 || w.joined[GSOUDPL4] == 0 {
				t.Error("the way was not bad, or nothing was joined")
			}
		})
	}
}

// control sets a socket's option.
func control(c any, set func(fd int) error) error {
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	if controlErr := raw.Control(func(fd uintptr) { err = set(int(fd)) }); controlErr != nil {
		return controlErr
	}
	return err
}
