package lab

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
)

// SubnetEnv is what subnet.env says, read as other programs read it: the lab
// shares no code with the daemon under test.
type SubnetEnv struct {
	Network, IPv6Network netip.Prefix
	Subnet, IPv6Subnet   netip.Prefix // the address is the gateway's; IPv6 may be zero
	MTU                  int
	IPMasq               bool
}

// ReadSubnetEnv reads a subnet.env.
func ReadSubnetEnv(path string) (SubnetEnv, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return SubnetEnv{}, err
	}
	e, err := parseSubnetEnv(string(b))
	if err != nil {
		return SubnetEnv{}, fmt.Errorf("%s: %w", path, err)
	}
	return e, nil
}

func parseSubnetEnv(text string) (SubnetEnv, error) {
	var e SubnetEnv
	for line := range strings.Lines(text) {
		key, value, found := strings.Cut(strings.TrimSpace(line), "=")
		if !found {
			return e, fmt.Errorf("not KEY=value: %q", line)
		}
		var err error
		switch key {
		case "FLANNEL_NETWORK":
			e.Network, err = netip.ParsePrefix(value)
		case "FLANNEL_SUBNET":
			e.Subnet, err = netip.ParsePrefix(value)
		case "FLANNEL_IPV6_NETWORK":
			e.IPv6Network, err = netip.ParsePrefix(value)
		case "FLANNEL_IPV6_SUBNET":
			e.IPv6Subnet, err = netip.ParsePrefix(value)
		case "FLANNEL_MTU":
			e.MTU, err = strconv.Atoi(value)
		case "FLANNEL_IPMASQ":
			e.IPMasq, err = strconv.ParseBool(value)
		}
		if err != nil {
			return e, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !e.Network.IsValid() || !e.Subnet.IsValid() || e.MTU < 576 {
		return e, fmt.Errorf("FLANNEL_NETWORK, FLANNEL_SUBNET or FLANNEL_MTU is missing or wrong: %q", text)
	}
	return e, nil
}
