package plugin

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/cni/hostlocal"
	"github.com/weftnet/weft/cni/netconf"
	"github.com/weftnet/weft/subnet/envfile"
)

// status says whether an ADD could succeed now. The codes are those of CNI
// 1.1: 50 if it could not, 51 if containers that are there suffer too.
func (c *call) status() error {
	env, err := c.subnet(types.ErrPluginNotAvailable)
	if err != nil {
		return c.worseIfAttached(err)
	}
	conf, err := c.network.Complete(env)
	if err != nil {
		return err
	}
	if err := c.checkPlugins(conf); err != nil {
		return notAvailable(err)
	}
	if err := c.caller.CallIfKnown(c.ctx, "STATUS", conf.Type, conf.Bytes()); err != nil {
		return notAvailable(err)
	}
	if conf.IPAM.Type == "host-local" {
		return c.checkRoom(conf.IPAM, env)
	}
	return nil
}

// worseIfAttached makes the error's code 51 if the network has containers:
// without a subnet file, weftd has not been ready since the machine started.
func (c *call) worseIfAttached(err error) error {
	var e *types.Error
	all, listErr := c.store.List()
	if listErr != nil || !errors.As(err, &e) {
		return err
	}
	for _, a := range all {
		if conf, err := c.kept(a); err == nil && conf.Name == c.network.Name {
			e.Code = types.ErrLimitedConnectivity
			return e
		}
	}
	return e
}

// checkPlugins looks for the delegate and its IPAM plugin, and asks them whether
// they speak the network's version of CNI.
func (c *call) checkPlugins(conf netconf.Delegate) error {
	for _, name := range []string{conf.Type, conf.IPAM.Type} {
		if err := c.caller.CheckVersion(c.ctx, name, c.network.CNIVersion); err != nil {
			return err
		}
	}
	return nil
}

// notAvailable gives an error of the delegate one of STATUS's codes.
func notAvailable(err error) error {
	var e *types.Error
	if errors.As(err, &e) && e.Code != types.ErrLimitedConnectivity {
		e.Code = types.ErrPluginNotAvailable
	}
	return err
}

// checkRoom finds a subnet of which every address is taken. Addresses of a
// former subnet do not count.
func (c *call) checkRoom(ipam netconf.IPAM, env envfile.File) error {
	all, err := hostlocal.List(ipam.DataDir, c.network.Name)
	if err != nil {
		return types.NewError(types.ErrPluginNotAvailable, err.Error(), "dataDir in the network's ipam must be the directory of host-local")
	}
	for _, subnet := range []netip.Prefix{env.Subnet, env.IPv6Subnet} {
		if !subnet.IsValid() {
			continue
		}
		taken := 0
		for _, r := range all {
			if subnet.Masked().Contains(r.Addr) {
				taken++
			}
		}
		if room := hostlocal.Capacity(subnet); taken >= room {
			return types.NewError(types.ErrPluginNotAvailable, fmt.Sprintf("all %d addresses of %s are taken", room, subnet.Masked()),
				"remove containers, have leaked addresses collected (docs/cni.md says how), or lease larger subnets (SubnetLen in the network config)")
		}
	}
	return nil
}
