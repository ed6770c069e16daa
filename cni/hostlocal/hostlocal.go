// Package hostlocal reads which addresses the IPAM plugin host-local has given
// out. That plugin (containernetworking/plugins 1.9) keeps a file for each, and
// knows neither GC nor STATUS, so weft answers those for it.
//
//	/var/lib/cni/networks/<network>/10.5.34.2     "<container>\r\n<interface>"
//	                                10.5.34.3
//	                                last_reserved_ip.0
//	                                lock
package hostlocal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/utils"
)

const defaultDataDir = "/var/lib/cni/networks"

// Reservation is an address and who has it.
type Reservation struct {
	Addr        netip.Addr
	ContainerID string
	IfName      string // empty where a host-local before 0.8.0 has written it
}

// List returns the reservations of a network, sorted by address. dataDir is
// the one in the network's ipam; empty is host-local's default. No folder is an
// empty one.
func List(dataDir, network string) ([]Reservation, error) {
	addresses, err := addressFiles(dataDir, network)
	if err != nil {
		return nil, err
	}
	var all []Reservation
	for addr, path := range addresses {
		content, err := readSmall(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // released just now
		}
		if err != nil {
			return nil, fmt.Errorf("read host-local's addresses: %w", err)
		}
		if r, ok := parse(addr, content); ok {
			all = append(all, r)
		}
	}
	slices.SortFunc(all, func(a, b Reservation) int { return a.Addr.Compare(b.Addr) })
	return all, nil
}

// RemoveEmpty frees addresses of which nobody knows who has them: host-local
// does not sync its files, so that they may be empty after a power failure, and
// cannot release such an address itself. A file that is being written just now
// is left alone.
func RemoveEmpty(dataDir, network string) error {
	addresses, err := addressFiles(dataDir, network)
	if err != nil {
		return err
	}
	for _, path := range addresses {
		st, err := os.Stat(path)
		if err == nil && st.Size() == 0 && time.Since(st.ModTime()) > time.Minute {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("free an address of host-local: %w", err)
		}
	}
	return nil
}

// addressFiles returns the paths of the files of a network's addresses.
func addressFiles(dataDir, network string) (map[netip.Addr]string, error) {
	if dataDir == "" {
		dataDir = defaultDataDir
	}
	if err := utils.ValidateNetworkName(network); err != nil {
		return nil, err
	}
	dir := filepath.Join(dataDir, network)
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list host-local's addresses: %w", err)
	}
	files := map[netip.Addr]string{}
	for _, e := range entries {
		if addr, err := netip.ParseAddr(e.Name()); err == nil && e.Type().IsRegular() {
			files[addr] = filepath.Join(dir, e.Name())
		}
	}
	return files, nil
}

// readSmall reads no more than a container's ID and an interface can be.
func readSmall(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	return string(b), err
}

// parse is false for content that names no container.
func parse(addr netip.Addr, content string) (Reservation, bool) {
	id, ifName, _ := strings.Cut(strings.TrimSpace(content), "\n")
	r := Reservation{Addr: addr, ContainerID: strings.TrimSpace(id), IfName: strings.TrimSpace(ifName)}
	if utils.ValidateContainerID(r.ContainerID) != nil {
		return Reservation{}, false
	}
	if r.IfName != "" && utils.ValidateInterfaceName(r.IfName) != nil {
		return Reservation{}, false
	}
	return r, true
}

// Capacity is how many addresses host-local gives out of a subnet: all but the
// subnet's own, the gateway's and IPv4's broadcast.
func Capacity(subnet netip.Prefix) int {
	hostBits := subnet.Addr().BitLen() - subnet.Bits()
	if hostBits >= 31 {
		return math.MaxInt32
	}
	n := 1<<hostBits - 2
	if subnet.Addr().Is4() {
		n--
	}
	return max(n, 0)
}

// ReleaseRange is a range with which host-local can be called to release an
// address. It looks for the container among all files of the network, but
// takes no configuration without a range.
func ReleaseRange(addr netip.Addr) netip.Prefix {
	return netip.PrefixFrom(addr, addr.BitLen()-2).Masked()
}
