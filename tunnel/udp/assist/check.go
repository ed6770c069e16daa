package assist

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Check tells why this host's kernel cannot do it, nil if it can. It loads the
// programs, attaches nothing and leaves nothing behind.
func Check() error {
	p, err := load(Config{
		TUN: 1, Underlay: 1, // they are not attached to it
		Local: netip.AddrFrom4([4]byte{127, 0, 0, 1}), Port: 8285,
		Floods: MaxFloods,
	})
	if err != nil {
		return explain(err)
	}
	return explain(errors.Join(haveTCX(p.ingress), p.close()))
}

// haveTCX asks for a link to an interface that cannot be, which is what a kernel
// complains about that knows TCX.
func haveTCX(program *ebpf.Program) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: program, Attach: ebpf.AttachTCXIngress})
	switch {
	case err == nil:
		return l.Close() // it can be, after all
	case errors.Is(err, unix.ENODEV):
		return nil
	}
	return fmt.Errorf("attach to an interface: %w", err)
}

// explain adds what a user can do.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: it takes CAP_BPF and CAP_NET_ADMIN of the host, and that no security module or seccomp filter refuses bpf(2)", err)
	case errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("%w: it takes Linux 6.6 with CONFIG_BPF_SYSCALL and CONFIG_NET_XGRESS", err)
	}
	return err
}
