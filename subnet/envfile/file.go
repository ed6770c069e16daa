// Package envfile writes and reads subnet.env, by which whoever starts
// containers learns this node's subnet: the CNI plugin, or a shell script that
// sources it.
//
//	FLANNEL_NETWORK=10.5.0.0/16
//	FLANNEL_SUBNET=10.5.34.1/24
//	FLANNEL_IPV6_NETWORK=fd00:5::/48
//	FLANNEL_IPV6_SUBNET=fd00:5:0:22::1/64
//	FLANNEL_MTU=1472
//	FLANNEL_IPMASQ=true
package envfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"github.com/weftnet/weft/internal/atomicfile"
)

// File is the content of a subnet.env. The IPv6 pair is the zero Prefix unless
// the network is dual stack.
type File struct {
	Network     netip.Prefix // of the cluster, masked
	Subnet      netip.Prefix // of this node: the gateway's address, and the subnet's length
	IPv6Network netip.Prefix
	IPv6Subnet  netip.Prefix
	MTU         int  // of containers, bytes
	IPMasq      bool // the daemon masquerades what leaves the network
}

const (
	keyNetwork     = "FLANNEL_NETWORK"
	keySubnet      = "FLANNEL_SUBNET"
	keyIPv6Network = "FLANNEL_IPV6_NETWORK"
	keyIPv6Subnet  = "FLANNEL_IPV6_SUBNET"
	keyMTU         = "FLANNEL_MTU"
	keyIPMasq      = "FLANNEL_IPMASQ"
)

// Write replaces the file at path atomically, readable by all. A missing
// directory is made.
func Write(path string, f File) error {
	data := f.format()
	if _, err := parse(data); err != nil {
		return fmt.Errorf("write %s: refusing what no one could read: %w", path, err)
	}
	if err := atomicfile.Write(path, data, 0o644, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// format writes f byte for byte as flannel does.
func (f File) format() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s=%s\n%s=%s\n", keyNetwork, f.Network, keySubnet, f.Subnet)
	if f.IPv6Network.IsValid() || f.IPv6Subnet.IsValid() {
		fmt.Fprintf(&b, "%s=%s\n%s=%s\n", keyIPv6Network, f.IPv6Network, keyIPv6Subnet, f.IPv6Subnet)
	}
	fmt.Fprintf(&b, "%s=%d\n%s=%t\n", keyMTU, f.MTU, keyIPMasq, f.IPMasq)
	return b.Bytes()
}

// Read reads the file at path. An error names the file, the line, and what was
// expected there; it matches fs.ErrNotExist where there is no file.
func Read(path string) (File, error) {
	data, err := readSmall(path)
	if err != nil {
		return File{}, err
	}
	f, err := parse(data)
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// readSmall reads a file that can be a subnet.env: nothing endless.
func readSmall(path string) ([]byte, error) {
	const limit = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if len(data) > limit {
		return nil, fmt.Errorf("%s: longer than %d bytes, so not a subnet.env", path, limit)
	}
	return data, nil
}

// Remove removes the file at path, if it is there.
func Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
