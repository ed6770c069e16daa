package assist

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// IPsec asks the kernel for its IPsec policies, in the network namespace that it
// was opened in. The programs would pass the tunnel's datagrams by them, so that
// what is to be encrypted would not be. Policies may come at any time.
type IPsec struct{ conn *netlink.Conn } // nil: a kernel without IPsec

// OpenIPsec opens the socket in the network namespace of the calling goroutine's
// thread.
func OpenIPsec() (*IPsec, error) {
	conn, err := netlink.Dial(unix.NETLINK_XFRM, nil)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT):
		return &IPsec{}, nil
	case err != nil:
		return nil, fmt.Errorf("open netlink for IPsec policies: %w", err)
	}
	return &IPsec{conn}, nil
}

// Check returns an error if there are policies, or none can be asked for.
func (s *IPsec) Check() error {
	n, err := s.count()
	switch {
	case err != nil:
		return err
	case n > 0:
		return fmt.Errorf("the kernel would pass the tunnel's datagrams by this host's IPsec policies (ip xfrm policy shows %d)", n)
	}
	return nil
}

// From linux/xfrm.h; x/sys/unix has neither.
const (
	xfrmMsgGetSPDInfo = 0x25 // asks for counts rather than the policies, of which there may be thousands
	xfrmaSPDInfo      = 1    // struct xfrmu_spdinfo
)

// count counts the policies for packets in, out and forwarded. Those of single
// sockets, which IKE daemons have for their own, are not among them.
func (s *IPsec) count() (n int, err error) {
	if s.conn == nil {
		return 0, nil
	}
	replies, err := s.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: xfrmMsgGetSPDInfo, Flags: netlink.Request},
		Data:   make([]byte, 4), // flags, of which there are none
	})
	if err != nil {
		return 0, fmt.Errorf("ask for the number of IPsec policies: %w", err)
	}
	for _, reply := range replies {
		if len(reply.Data) < 4 {
			continue
		}
		attrs, err := netlink.NewAttributeDecoder(reply.Data[4:])
		if err != nil {
			return 0, fmt.Errorf("read the number of IPsec policies: %w", err)
		}
		for attrs.Next() {
			if info := attrs.Bytes(); attrs.Type() == xfrmaSPDInfo && len(info) >= 12 {
				for i := 0; i < 12; i += 4 {
					n += int(binary.NativeEndian.Uint32(info[i:]))
				}
				return n, nil
			}
		}
	}
	return 0, errors.New("read the number of IPsec policies: the kernel does not say it")
}

// Close closes the socket.
func (s *IPsec) Close() {
	if s.conn != nil {
		s.conn.Close()
	}
}

// CheckIPsec is IPsec.Check, once, in the network namespace of the calling
// goroutine's thread.
func CheckIPsec() error {
	s, err := OpenIPsec()
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Check()
}
