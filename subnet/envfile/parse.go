package envfile

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// maxMTU is the most that an IP packet can be.
const maxMTU = 65535

// parse reads lines of KEY=value as a shell would: values may be quoted, lines
// may end in CRLF, comments and empty lines are skipped, and of a key that
// appears twice the last counts. Other keys are ignored.
func parse(data []byte) (File, error) {
	var f File
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(string(data)) {
		number++
		key, value, ok, err := splitLine(line)
		if err != nil {
			return File{}, fmt.Errorf("line %d: %w", number, err)
		}
		if !ok {
			continue
		}
		if err := f.set(key, value); err != nil {
			return File{}, fmt.Errorf("line %d: %s=%q: %w", number, key, value, err)
		}
		seen[key] = true
	}
	for _, key := range []string{keyNetwork, keySubnet, keyMTU, keyIPMasq} {
		if !seen[key] {
			return File{}, fmt.Errorf("%s is missing", key)
		}
	}
	if seen[keyIPv6Network] != seen[keyIPv6Subnet] {
		return File{}, fmt.Errorf("%s and %s must both be there, or neither", keyIPv6Network, keyIPv6Subnet)
	}
	if err := checkInside(keySubnet, f.Subnet, keyNetwork, f.Network); err != nil {
		return File{}, err
	}
	if seen[keyIPv6Subnet] {
		if err := checkInside(keyIPv6Subnet, f.IPv6Subnet, keyIPv6Network, f.IPv6Network); err != nil {
			return File{}, err
		}
	}
	return f, nil
}

// splitLine returns no pair and no error for a line without content.
func splitLine(line string) (key, value string, ok bool, err error) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", false, nil
	}
	key, value, ok = strings.Cut(line, "=")
	if !ok {
		return "", "", false, fmt.Errorf("%q: want KEY=value", line)
	}
	key = strings.TrimSpace(strings.TrimPrefix(key, "export "))
	value = strings.TrimSpace(value)
	if value != "" && (value[0] == '"' || value[0] == '\'') {
		end := strings.IndexByte(value[1:], value[0])
		if end < 0 {
			return "", "", false, fmt.Errorf("%s=%s: the closing quote is missing", key, value)
		}
		return key, value[1 : 1+end], true, nil
	}
	value, _, _ = strings.Cut(value, " #")
	return key, strings.TrimSpace(value), true, nil
}

func (f *File) set(key, value string) (err error) {
	switch key {
	case keyNetwork:
		f.Network, err = parsePrefix(value, netip.Addr.Is4, "an IPv4 prefix such as 10.5.0.0/16")
	case keySubnet:
		f.Subnet, err = parsePrefix(value, netip.Addr.Is4, "an IPv4 address and prefix length such as 10.5.34.1/24")
	case keyIPv6Network:
		f.IPv6Network, err = parsePrefix(value, isIPv6, "an IPv6 prefix such as fd00:5::/48")
	case keyIPv6Subnet:
		f.IPv6Subnet, err = parsePrefix(value, isIPv6, "an IPv6 address and prefix length such as fd00:5:0:22::1/64")
	case keyMTU:
		if f.MTU, err = strconv.Atoi(value); err != nil || f.MTU < 1 || f.MTU > maxMTU {
			err = fmt.Errorf("want a number from 1 to %d", maxMTU)
		}
	case keyIPMasq:
		if f.IPMasq, err = strconv.ParseBool(value); err != nil {
			err = errors.New("want true or false")
		}
	}
	return err
}

func isIPv6(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }

func parsePrefix(value string, family func(netip.Addr) bool, want string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(value)
	if err != nil || !family(p.Addr()) {
		return netip.Prefix{}, errors.New("want " + want)
	}
	return p, nil
}

func checkInside(subnetKey string, subnet netip.Prefix, networkKey string, network netip.Prefix) error {
	if !network.Contains(subnet.Addr()) || subnet.Bits() < network.Bits() {
		return fmt.Errorf("%s=%s must lie in %s=%s", subnetKey, subnet, networkKey, network)
	}
	return nil
}
