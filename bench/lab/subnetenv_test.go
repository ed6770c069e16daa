package lab

import (
	"net/netip"
	"testing"
)

func TestParseSubnetEnv(t *testing.T) {
	got, err := parseSubnetEnv("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\n" +
		"FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:22::1/64\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n")
	want := SubnetEnv{
		Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.34.1/24"),
		IPv6Network: netip.MustParsePrefix("fd00:5::/48"), IPv6Subnet: netip.MustParsePrefix("fd00:5:0:22::1/64"),
		MTU: 1472, IPMasq: true,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{
		"", "FLANNEL_NETWORK", "FLANNEL_MTU=x\n",
		"FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_MTU=1472\n",
		"FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.34.1/24\nFLANNEL_MTU=0\n",
	} {
		if e, err := parseSubnetEnv(bad); err == nil {
			t.Errorf("%q parses as %+v", bad, e)
		}
	}
}
