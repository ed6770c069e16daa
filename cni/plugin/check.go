package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weftnet/weft/cni/netconf"
	"github.com/weftnet/weft/subnet/envfile"
)

const adviceRecreate = "remove the container and create it again"

// check asks the delegate whether the container is attached as ADD said, and
// compares that with this node's subnet now.
func (c *call) check() error {
	conf, err := c.kept(c.attachment())
	if errors.Is(err, fs.ErrNotExist) {
		return types.NewError(types.ErrUnknownContainer,
			fmt.Sprintf("container %s was not attached by this plugin, or %s was lost", c.args.ContainerID, c.store.Dir), adviceRecreate)
	}
	if err != nil {
		return err
	}
	env, err := c.subnet(types.ErrTryAgainLater)
	if err != nil {
		return err
	}
	if err := c.checkMTU(conf, env); err != nil {
		return err
	}
	if err := c.checkAddresses(env); err != nil {
		return err
	}
	conf = conf.WithResult(c.network.CNIVersion, c.network.PrevResult)
	return c.caller.Call(c.ctx, "CHECK", conf.Type, conf.Bytes(), c.environment())
}

// checkMTU compares what the interface was made with and what it would be made
// with now. A smaller one loses nothing; a larger one loses packets. The
// interface itself is not looked at: a chained plugin may have changed it.
func (c *call) checkMTU(conf netconf.Delegate, env envfile.File) error {
	now, err := c.network.Complete(env)
	if err != nil {
		return err
	}
	if conf.MTU > now.MTU {
		return types.NewError(types.ErrInternal, fmt.Sprintf("the container was attached with the MTU %d, and the network's is now %d", conf.MTU, now.MTU), adviceRecreate)
	}
	return nil
}

// checkAddresses finds a container of a subnet that this node had before:
// other nodes no longer send here what is for it.
func (c *call) checkAddresses(env envfile.File) error {
	result, err := c.prevResult()
	if err != nil {
		return err
	}
	for _, ip := range result.IPs {
		addr, ok := netip.AddrFromSlice(ip.Address.IP)
		if !ok {
			continue
		}
		addr = addr.Unmap()
		inNetwork := env.Network.Contains(addr) || env.IPv6Network.IsValid() && env.IPv6Network.Contains(addr)
		inSubnet := env.Subnet.Masked().Contains(addr) || env.IPv6Subnet.IsValid() && env.IPv6Subnet.Masked().Contains(addr)
		if inNetwork && !inSubnet {
			return types.NewError(types.ErrInternal,
				fmt.Sprintf("the container's address %s is not in this node's subnet, which is now %s", addr, env.Subnet.Masked()), adviceRecreate)
		}
	}
	return nil
}

// prevResult is the container's result of ADD. It must be there.
func (c *call) prevResult() (*types100.Result, error) {
	conf := types.PluginConf{CNIVersion: c.network.CNIVersion}
	if len(c.network.PrevResult) > 0 {
		if err := json.Unmarshal(c.network.PrevResult, &conf.RawPrevResult); err != nil {
			return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read prevResult: %v", err), "the runtime must hand over what ADD returned")
		}
	}
	if err := version.ParsePrevResult(&conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, err.Error(), "the runtime must hand over what ADD returned")
	}
	if conf.PrevResult == nil {
		return nil, types.NewError(types.ErrInvalidNetworkConfig, "prevResult is missing", "the runtime must hand over what ADD returned")
	}
	result, err := types100.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, fmt.Sprintf("read prevResult: %v", err), "the runtime must hand over what ADD returned")
	}
	return result, nil
}
