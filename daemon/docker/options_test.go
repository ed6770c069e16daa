package docker

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet/envfile"
)

var (
	ipv4 = envfile.File{
		Network: netip.MustParsePrefix("10.5.0.0/16"),
		Subnet:  netip.MustParsePrefix("10.5.34.1/24"),
		MTU:     1472,
		IPMasq:  true,
	}
	dual = envfile.File{
		Network:     ipv4.Network,
		Subnet:      ipv4.Subnet,
		IPv6Network: netip.MustParsePrefix("fd00:5::/48"),
		IPv6Subnet:  netip.MustParsePrefix("fd00:5:0:22::1/64"),
		MTU:         1452,
	}
)

func TestEnv(t *testing.T) {
	both := EnvFormat{Individual: true, Combined: true, Key: "DOCKER_OPTS"}
	for _, c := range []struct {
		name   string
		file   envfile.File
		format EnvFormat
		want   string
	}{
		{"both kinds", ipv4, both, `
DOCKER_OPT_BIP="--bip=10.5.34.1/24"
DOCKER_OPT_IPMASQ="--ip-masq=false"
DOCKER_OPT_MTU="--mtu=1472"
DOCKER_OPTS="--bip=10.5.34.1/24 --ip-masq=false --mtu=1472"
`},
		{"dual stack, Docker masquerades", dual, both, `
DOCKER_OPT_BIP="--bip=10.5.34.1/24"
DOCKER_OPT_FIXED_CIDR_V6="--fixed-cidr-v6=fd00:5:0:22::/64"
DOCKER_OPT_IPV6="--ipv6=true"
DOCKER_OPT_IPMASQ="--ip-masq=true"
DOCKER_OPT_MTU="--mtu=1452"
DOCKER_OPTS="--bip=10.5.34.1/24 --fixed-cidr-v6=fd00:5:0:22::/64 --ipv6=true --ip-masq=true --mtu=1452"
`},
		{"combined, another key, options before, no masquerade", ipv4,
			EnvFormat{Combined: true, Key: "OPTIONS", Before: " --debug  -H fd:// ", NoIPMasq: true}, `
OPTIONS="--debug -H fd:// --bip=10.5.34.1/24 --mtu=1472"
`},
		{"individual", ipv4, EnvFormat{Individual: true, Key: "DOCKER_OPTS", NoIPMasq: true}, `
DOCKER_OPT_BIP="--bip=10.5.34.1/24"
DOCKER_OPT_MTU="--mtu=1472"
`},
	} {
		if got := string(OptionsFor(c.file).Env(c.format)); got != strings.TrimPrefix(c.want, "\n") {
			t.Errorf("%s:\n%s\nwant%s", c.name, got, c.want)
		}
	}
}
