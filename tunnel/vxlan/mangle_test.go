package vxlan

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
)

// The offload is switched off on the host whose card makes wrong checksums, and
// stays on, after a test, on the other one.
func TestChecksumOffloadMangles(t *testing.T) {
	l := newLab(t, 2, true, `{"TxChecksum":"on"}`)
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	mangle(t, l, a)
	echo := traffic.EchoOptions{Count: 10}
	for _, to := range b.Addrs() {
		if r, err := traffic.EchoUDP(t.Context(), a.Container.Namespace, b.Container.Namespace, to, echo); err != nil || r.Arrived > 0 {
			t.Fatalf("the card should lose all UDP to %v: %+v, %v", to, r, err)
		}
	}
	a.Reach(t, b) // ping passes

	for _, n := range l.Nodes {
		kerneltest.Check(t, n.Close())
		kerneltest.Check(t, n.Do(func() (err error) {
			n.Backend, err = New(nodeConfig(n, ""))
			return err
		}))
		kerneltest.Check(t, n.Do(func() error { return n.Backend.Start(t.Context(), n.Lease) }))
	}
	l.Introduce()
	for _, c := range []struct {
		on   *kerneltest.Node
		want bool
		why  string
	}{{a, false, "makes wrong checksums inside VXLAN"}, {b, true, "tested with"}} {
		for capability, device := range map[string]string{"tx_checksum": "flannel.1", "tx_checksum_v6": "flannel-v6.1"} {
			awaitVerdict(t, fmt.Sprintf("a verdict on %s of host %d", device, c.on.Number), func() bool {
				return slices.ContainsFunc(c.on.Status().Capabilities, func(got tunnel.Capability) bool {
					return got.Name == capability && got.On == c.want && strings.Contains(got.Why, c.why)
				})
			})
			awaitVerdict(t, fmt.Sprintf("offload of %s of host %d to be %v", device, c.on.Number, c.want), func() bool {
				features, err := c.on.Features(device)
				kerneltest.Check(t, err)
				return features["tx-checksum-ip-generic"] == c.want
			})
		}
	}
	for _, to := range b.Addrs() {
		kerneltest.Echo(t, a, b, to, echo)
		if _, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, to, 1<<20, "", nil); err != nil {
			t.Error(err)
		}
	}
}

// awaitVerdict has more patience than Eventually: a test that a busy machine
// spoils is done again after a while.
func awaitVerdict(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// mangle puts a card behind a node's eth0 that is right about the checksums of
// all packets but those inside VXLAN, which it leaves unmade. Between veth
// devices nobody makes checksums, so what is behind the card is told to.
func mangle(t *testing.T, l *kerneltest.Lab, n *kerneltest.Node) {
	t.Helper()
	port := fmt.Sprintf("port%d", n.Number)
	_, err := l.Switch.Output("ip", "link", "set", port, "nomaster")
	kerneltest.Check(t, err)
	kerneltest.Check(t, lab.Veth(lab.End{In: l.Switch, Device: "card"}, lab.End{In: l.Switch, Device: "behind"}, l.MTU))
	kerneltest.Check(t, l.Switch.Attach("br0", "behind"))
	whole := map[string]bool{"tx-checksum-ip-generic": false}
	kerneltest.Check(t, l.Switch.SetFeatures("behind", whole))
	kerneltest.Check(t, l.Switch.SetFeatures("card", whole))
	kerneltest.Check(t, n.SetFeatures("eth0", map[string]bool{"tx-tcp-segmentation": false, "tx-tcp6-segmentation": false, "tx-udp-segmentation": false, "tx-generic-segmentation": false}))

	inside, outside := packetSocket(t, l.Switch, port), packetSocket(t, l.Switch, "card")
	var relays sync.WaitGroup
	end := make(chan struct{})
	relays.Go(func() { relay(inside, outside, end) })
	relays.Go(func() { relay(outside, inside, end) })
	t.Cleanup(func() {
		close(end)
		relays.Wait()
		unix.Close(inside)
		unix.Close(outside)
	})
}

// packetSocket takes and gives the frames of a device, with a virtio_net_hdr
// before each.
func packetSocket(t *testing.T, ns *lab.Namespace, device string) (fd int) {
	t.Helper()
	kerneltest.Check(t, ns.Do(func() (err error) {
		all := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, unix.ETH_P_ALL))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50_000}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index}),
		)
	}))
	return fd
}

// relay moves frames from one device to another until the end.
func relay(from, to int, end chan struct{}) {
	const vnetHeader = 10 // struct virtio_net_hdr
	buf := make([]byte, 1<<17)
	for {
		select {
		case <-end:
			return
		default:
		}
		n, err := unix.Read(from, buf)
		if err != nil || n < vnetHeader+14 {
			continue // nothing came
		}
		header, frame := buf[:vnetHeader], buf[vnetHeader:n]
		if header[0]&unix.VIRTIO_NET_HDR_F_NEEDS_CSUM != 0 {
			start := int(binary.NativeEndian.Uint16(header[6:]))
			at := start + int(binary.NativeEndian.Uint16(header[8:]))
			if start <= 14+40 { // not inside a tunnel
				binary.BigEndian.PutUint16(frame[at:], checksum(frame[start:]))
			}
		}
		clear(header)
		unix.Write(to, buf[:n])
	}
}

// checksum is RFC 1071's, of what has the pseudo header's sum in its checksum
// field.
func checksum(b []byte) uint16 {
	var sum uint32
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum>>16 > 0 {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
