package netstate

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Switch is a setting that may be left alone.
type Switch uint8

const (
	Leave Switch = iota
	On
	Off
)

// setTxChecksum compares whether the device takes packets whose transport
// checksum is still to be made (`ethtool -k`: tx-checksumming).
func (p *pass) setTxChecksum(want Link) {
	if want.TxChecksum == Leave {
		return
	}
	on, err := ethtool(want.Name, unix.ETHTOOL_GTXCSUM, 0)
	if err != nil {
		p.fail(want.String(), fmt.Errorf("read checksum offload: %w", err))
		return
	}
	value := uint32(0)
	if want.TxChecksum == On {
		value = 1
	}
	if (on != 0) == (value != 0) {
		return
	}
	p.fix(want, fmt.Sprintf("checksum offload was %v", on != 0), func() error {
		_, err := ethtool(want.Name, unix.ETHTOOL_STXCSUM, value)
		if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("set checksum offload: %w: the device cannot; leave TxChecksum out of the config", err)
		}
		return explain("set checksum offload", err)
	})
}

// ethtool does one command that takes or gives one number (struct
// ethtool_value in linux/ethtool.h), on a device of the thread's namespace.
func ethtool(device string, cmd, value uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open socket: %w", err)
	}
	defer unix.Close(fd)
	data := struct{ cmd, value uint32 }{cmd, value}
	// struct ifreq: the name, and a union of which a pointer is used here.
	req := struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&data)}
	copy(req.name[:unix.IFNAMSIZ-1], device)
	var pinner runtime.Pinner
	pinner.Pin(&data)
	defer pinner.Unpin()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		return 0, errno
	}
	return data.value, nil
}
