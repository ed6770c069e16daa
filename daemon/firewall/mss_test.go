package firewall

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// handshake is the MSS option of a connection's SYN and SYN-ACK, each where it
// arrived.
type handshake struct{ syn, synAck int }

// connect opens a TCP connection and reads its handshake.
func connect(t *testing.T, client, server *lab.Namespace, to netip.Addr) (h handshake) {
	t.Helper()
	atServer, atClient := listenTCPSegments(t, server, to), listenTCPSegments(t, client, to)
	defer atServer.Close()
	defer atClient.Close()
	var listener net.Listener
	must(t, server.Do(func() (err error) {
		listener, err = net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(to, 0)))
		return err
	}))
	defer listener.Close()
	must(t, client.Do(func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), long)
		if err != nil {
			return err
		}
		return c.Close()
	}))
	return handshake{syn: readMSS(t, atServer), synAck: readMSS(t, atClient)}
}

// listenTCPSegments opens a socket that gets a copy of every TCP segment the
// namespace receives in the family of addr.
func listenTCPSegments(t *testing.T, ns *lab.Namespace, addr netip.Addr) (c *net.IPConn) {
	t.Helper()
	network := "ip4:tcp"
	if addr.Is6() {
		network = "ip6:tcp"
	}
	must(t, ns.Do(func() (err error) {
		c, err = net.ListenIP(network, nil)
		return err
	}))
	must(t, c.SetReadDeadline(time.Now().Add(long)))
	return c
}

// readMSS returns the MSS option of the first segment with SYN, 0 if it has
// none.
func readMSS(t *testing.T, c *net.IPConn) int {
	t.Helper()
	buf := make([]byte, bridgeMTU)
	for {
		n, _, err := c.ReadFromIP(buf)
		must(t, err)
		const syn = 0x02
		if tcp := buf[:n]; tcp[13]&syn != 0 {
			return mssOption(tcp[20 : int(tcp[12]>>4)*4])
		}
	}
}

func mssOption(options []byte) int {
	for len(options) > 1 {
		switch kind := options[0]; kind {
		case 0: // end of list
			return 0
		case 1: // padding
			options = options[1:]
		case 2:
			return int(options[2])<<8 | int(options[3])
		default:
			options = options[options[1]:]
		}
	}
	return 0
}

func TestMSSIsClampedInBothDirections(t *testing.T) {
	const tcp4, tcp6 = 20 + 20, 40 + 20 // headers
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		cfg := full()
		cfg.ClampMSS = false
		fw := n.start(t, mode, cfg)
		if got, want := connect(t, n.remote, n.container, v4.container), (handshake{bridgeMTU - tcp4, bridgeMTU - tcp4}); got != want {
			t.Fatalf("without clamp, remote to container: %+v, want %+v", got, want)
		}
		n.apply(t, fw, full())
		for _, f := range []struct {
			addrs
			headers int
		}{{v4, tcp4}, {v6, tcp6}} {
			want := handshake{overlayMTU - f.headers, overlayMTU - f.headers}
			if got := connect(t, n.container, n.remote, f.remote); got != want {
				t.Errorf("container to %v: %+v, want %+v", f.remote, got, want)
			}
			if got := connect(t, n.remote, n.container, f.container); got != want {
				t.Errorf("remote to %v: %+v, want %+v", f.container, got, want)
			}
			// Around the overlay there is nothing to clamp.
			want = handshake{bridgeMTU - f.headers, bridgeMTU - f.headers}
			if got := connect(t, n.container, n.outside, f.outside); got != want {
				t.Errorf("container to %v: %+v, want %+v", f.outside, got, want)
			}
		}
	})
}
