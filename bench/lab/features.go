package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands of the ethtool ioctl (linux/ethtool.h), all on the string set of
// feature names.
const (
	ethtoolStrings     = 0x1b // ETHTOOL_GSTRINGS
	ethtoolSetInfo     = 0x37 // ETHTOOL_GSSET_INFO
	ethtoolGetFeatures = 0x3a // ETHTOOL_GFEATURES
	ethtoolSetFeatures = 0x3b // ETHTOOL_SFEATURES

	featureSet   = 4  // ETH_SS_FEATURES
	featureName  = 32 // ETH_GSTRING_LEN, in bytes
	featureBlock = 32 // features in one word of a bit set
)

// Features tells which offloads of a device are on, by the kernel's names for
// them ("tx-udp_tnl-segmentation", "rx-gro"), which `ethtool -k` abbreviates
// in some cases.
func (n *Namespace) Features(device string) (map[string]bool, error) {
	on := make(map[string]bool)
	err := n.Do(func() error {
		e, err := openEthtool(device)
		if err != nil {
			return err
		}
		defer e.close()
		active, err := e.active()
		for i, name := range e.names {
			on[name] = active != nil && active[i]
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read features of %s in %s: %w", device, n.Name, err)
	}
	return on, nil
}

// SetFeatures switches offloads of a device on or off. It is an error if the
// kernel does not know one, or leaves it as it was.
func (n *Namespace) SetFeatures(device string, want map[string]bool) error {
	err := n.Do(func() error {
		e, err := openEthtool(device)
		if err != nil {
			return err
		}
		defer e.close()
		return e.set(want)
	})
	if err != nil {
		return fmt.Errorf("set features of %s in %s: %w", device, n.Name, err)
	}
	return nil
}

// ethtool asks about one device through a socket of its namespace.
type ethtool struct {
	fd     int
	device string
	names  []string // of the features, by bit
}

func openEthtool(device string) (*ethtool, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	e := &ethtool{fd: fd, device: device}
	if e.names, err = e.readNames(); err != nil {
		e.close()
		return nil, err
	}
	return e, nil
}

func (e *ethtool) close() { unix.Close(e.fd) }

func (e *ethtool) readNames() ([]string, error) {
	// struct ethtool_sset_info: cmd, reserved, sset_mask (64 bits), data.
	info := words(ethtoolSetInfo, 0)
	info = binary.NativeEndian.AppendUint64(info, 1<<featureSet)
	info = append(info, words(0)...)
	if err := e.ioctl(info); err != nil {
		return nil, fmt.Errorf("count features: %w", err)
	}
	count := int(word(info, 4))
	// struct ethtool_gstrings: cmd, string_set, len, data.
	list := append(words(ethtoolStrings, featureSet, uint32(count)), make([]byte, count*featureName)...)
	if err := e.ioctl(list); err != nil {
		return nil, fmt.Errorf("list features: %w", err)
	}
	names := make([]string, count)
	for i := range names {
		name, _, _ := bytes.Cut(list[12+i*featureName:][:featureName], []byte{0})
		names[i] = string(name)
	}
	return names, nil
}

// active returns for each feature whether it is on.
func (e *ethtool) active() ([]bool, error) {
	blocks := (len(e.names) + featureBlock - 1) / featureBlock
	// struct ethtool_gfeatures: cmd, size, then for each block four words:
	// available, requested, active, never_changed.
	b := append(words(ethtoolGetFeatures, uint32(blocks)), make([]byte, blocks*16)...)
	if err := e.ioctl(b); err != nil {
		return nil, fmt.Errorf("get features: %w", err)
	}
	on := make([]bool, len(e.names))
	for i := range on {
		on[i] = word(b, 2+i/featureBlock*4+2)>>(i%featureBlock)&1 == 1
	}
	return on, nil
}

func (e *ethtool) set(want map[string]bool) error {
	blocks := (len(e.names) + featureBlock - 1) / featureBlock
	// struct ethtool_sfeatures: cmd, size, then for each block two words:
	// valid, requested.
	b := append(words(ethtoolSetFeatures, uint32(blocks)), make([]byte, blocks*8)...)
	known := 0
	for i, name := range e.names {
		on, ok := want[name]
		if !ok {
			continue
		}
		known++
		at := 8 + i/featureBlock*8
		bit := uint32(1) << (i % featureBlock)
		setBits(b[at:], bit)
		if on {
			setBits(b[at+4:], bit)
		}
	}
	if known < len(want) {
		return fmt.Errorf("the kernel knows only %d of %v", known, want)
	}
	if err := e.ioctl(b); err != nil {
		return err
	}
	now, err := e.active()
	if err != nil {
		return err
	}
	for i, name := range e.names {
		if on, ok := want[name]; ok && now[i] != on {
			return fmt.Errorf("the kernel leaves %s as it was", name)
		}
	}
	return nil
}

// ioctl has the kernel read and write b.
func (e *ethtool) ioctl(b []byte) error {
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&b[0])}
	copy(request.name[:unix.IFNAMSIZ-1], e.device)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(e.fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request)))
	runtime.KeepAlive(b)
	if errno != 0 {
		return errno
	}
	return nil
}

func words(values ...uint32) (b []byte) {
	for _, v := range values {
		b = binary.NativeEndian.AppendUint32(b, v)
	}
	return b
}

func word(b []byte, i int) uint32 { return binary.NativeEndian.Uint32(b[i*4:]) }

func setBits(b []byte, bits uint32) {
	binary.NativeEndian.PutUint32(b, binary.NativeEndian.Uint32(b)|bits)
}
