// Package docker puts the containers of a Docker engine, without Swarm, on this
// node's leased subnet: either its default bridge docker0, by options of dockerd
// (options.go, daemonjson.go), or a bridge network beside it, over Docker's API
// (network.go, engine.go). A leased subnet serves one bridge, so each way
// refuses while the other one is in use.
//
// What Docker's firewall rules drop is answered by package firewall.
package docker

import (
	"bytes"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/weftnet/weft/subnet/envfile"
)

// Options are the options of dockerd that put docker0 on the leased subnet.
type Options struct {
	BIP         netip.Prefix // docker0's address and the subnet's length
	FixedCIDRv6 netip.Prefix // the IPv6 subnet, whose first address docker0 takes; zero unless dual stack
	MTU         int          // bytes
	IPMasq      bool         // Docker masquerades, since weftd does not
}

// OptionsFor returns the options for the subnet that f names.
func OptionsFor(f envfile.File) Options {
	return Options{
		BIP:         f.Subnet,
		FixedCIDRv6: f.IPv6Subnet.Masked(), // of the zero Prefix, that again
		MTU:         f.MTU,
		IPMasq:      !f.IPMasq,
	}
}

// EnvFormat says which variables an environment file holds.
type EnvFormat struct {
	Individual bool   // one for each option: DOCKER_OPT_MTU="--mtu=1472"
	Combined   bool   // one for all of them
	Key        string // the combined variable's name
	Before     string // options that go first in the combined variable
	NoIPMasq   bool   // leave --ip-masq out
}

// Env renders the options as a file of variables for systemd's EnvironmentFile
// or a shell, in the form that flannel's mk-docker-opts.sh has.
func (o Options) Env(f EnvFormat) []byte {
	type option struct{ name, flag string }
	options := []option{{"BIP", "--bip=" + o.BIP.String()}}
	if o.FixedCIDRv6.IsValid() {
		options = append(options,
			option{"FIXED_CIDR_V6", "--fixed-cidr-v6=" + o.FixedCIDRv6.String()},
			option{"IPV6", "--ipv6=true"})
	}
	if !f.NoIPMasq {
		options = append(options, option{"IPMASQ", "--ip-masq=" + strconv.FormatBool(o.IPMasq)})
	}
	options = append(options, option{"MTU", "--mtu=" + strconv.Itoa(o.MTU)})

	var b bytes.Buffer
	all := strings.Fields(f.Before)
	for _, opt := range options {
		if f.Individual {
			fmt.Fprintf(&b, "DOCKER_OPT_%s=%q\n", opt.name, opt.flag)
		}
		all = append(all, opt.flag)
	}
	if f.Combined {
		fmt.Fprintf(&b, "%s=%q\n", f.Key, strings.Join(all, " "))
	}
	return b.Bytes()
}
