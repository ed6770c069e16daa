package lab

import (
	"context"
	"net"
)

// Dial is d.DialContext with the socket made inside the namespace. The
// address is an IP address and port.
func (n *Namespace) Dial(ctx context.Context, d net.Dialer, network, addr string) (c net.Conn, err error) {
	// A dialer that races address families makes sockets on threads of its own.
	d.FallbackDelay = -1
	err = n.Do(func() error {
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// Listen is l.Listen with the socket made inside the namespace.
func (n *Namespace) Listen(ctx context.Context, l net.ListenConfig, network, addr string) (listener net.Listener, err error) {
	err = n.Do(func() error {
		listener, err = l.Listen(ctx, network, addr)
		return err
	})
	return listener, err
}

// ListenPacket is l.ListenPacket with the socket made inside the namespace.
func (n *Namespace) ListenPacket(ctx context.Context, l net.ListenConfig, network, addr string) (c net.PacketConn, err error) {
	err = n.Do(func() error {
		c, err = l.ListenPacket(ctx, network, addr)
		return err
	})
	return c, err
}
