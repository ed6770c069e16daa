// Package plugin answers the verbs of CNI: it completes the configuration of
// another plugin, usually bridge, with this node's subnet, and lets that one do
// the work.
//
//	runtime ── ADD ──► weft-cni ── ADD ──► bridge ── ADD ──► host-local
//	                     │  reads subnet.env, keeps what it called bridge with
//	runtime ── DEL ──► weft-cni ── DEL, with what was kept ──► bridge …
//
// Every error is a types.Error. It says what to do, unless it is one of the
// other plugin's that is not known here: then it says whose it is.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weftnet/weft/cni/delegate"
	"github.com/weftnet/weft/cni/netconf"
	"github.com/weftnet/weft/cni/scratch"
	"github.com/weftnet/weft/subnet/envfile"
)

// Versions are the versions of CNI that the plugin speaks. Flannel's samples
// are of 0.3.1 or, by saying nothing, of 0.1.0.
var Versions = version.PluginSupports("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// Plugin answers one call of the runtime.
type Plugin struct {
	Stdout io.Writer // for ADD's result
	Stderr io.Writer // for what is no error of the call, and the delegates'
}

// Funcs are the plugin's verbs for pkg/skel.
func (p *Plugin) Funcs(ctx context.Context) skel.CNIFuncs {
	with := func(verb func(*call) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error {
			network, err := netconf.Parse(args.StdinData)
			if err != nil {
				return err
			}
			return verb(&call{
				Plugin: p, ctx: ctx, args: args, network: network,
				caller: delegate.Caller{Path: args.Path, Stderr: p.Stderr},
				store:  scratch.Store{Dir: network.DataDir},
			})
		}
	}
	return skel.CNIFuncs{
		Add:    with((*call).add),
		Del:    with((*call).del),
		Check:  with((*call).check),
		GC:     with((*call).gc),
		Status: with((*call).status),
	}
}

// call is one call, with all that its verb needs.
type call struct {
	*Plugin
	ctx     context.Context
	args    *skel.CmdArgs
	network *netconf.Network
	caller  delegate.Caller
	store   scratch.Store
}

// attachment is the one that ADD, DEL and CHECK are about.
func (c *call) attachment() scratch.Attachment {
	return scratch.Attachment{ContainerID: c.args.ContainerID, IfName: c.args.IfName}
}

// environment is what the delegate is told about it.
func (c *call) environment() delegate.Attachment {
	return delegate.Attachment{ContainerID: c.args.ContainerID, NetNS: c.args.Netns, IfName: c.args.IfName, Args: c.args.Args}
}

// subnet reads this node's subnet. Its absence is code's error.
func (c *call) subnet(code uint) (envfile.File, error) {
	env, err := envfile.Read(c.network.SubnetFile)
	if errors.Is(err, fs.ErrNotExist) {
		return env, types.NewError(code, fmt.Sprintf("there is no subnet file %s", c.network.SubnetFile),
			"weftd writes it as soon as this node has a subnet: see whether it runs, and what `weftd status` says; if its --subnet-file is another, set subnetFile in the network's configuration")
	}
	if err != nil {
		return env, types.NewError(code, fmt.Sprintf("read the subnet file: %v", err), "remove the file and restart weftd, which writes it anew")
	}
	return env, nil
}

// kept returns the configuration that ADD called the delegate with, be it
// weft's ADD or that of flannel's plugin. The error matches fs.ErrNotExist if
// there is none that can be used.
func (c *call) kept(a scratch.Attachment) (netconf.Delegate, error) {
	conf, err := c.load(c.store.Load, a)
	if errors.Is(err, fs.ErrNotExist) {
		return c.load(c.store.LoadFlannels, a)
	}
	return conf, err
}

func (c *call) load(from func(scratch.Attachment) ([]byte, error), a scratch.Attachment) (netconf.Delegate, error) {
	data, err := from(a)
	if errors.Is(err, fs.ErrNotExist) {
		return netconf.Delegate{}, err
	}
	if err != nil {
		return netconf.Delegate{}, c.storeError(err)
	}
	conf, err := netconf.ParseDelegate(data)
	if err != nil {
		// Flannel's plugin does not write atomically: a crash cuts its files.
		fmt.Fprintf(c.Stderr, "container %s: %v\n", a.ContainerID, err)
		return netconf.Delegate{}, fs.ErrNotExist
	}
	return conf, nil
}

// findPlugins looks for the delegate and its IPAM plugin before anything is
// made: bridge (1.9) notices a missing IPAM plugin only when it has made a veth.
func (c *call) findPlugins(conf netconf.Delegate) error {
	for _, name := range []string{conf.Type, conf.IPAM.Type} {
		if _, err := c.caller.Find(name); err != nil {
			return err
		}
	}
	return nil
}

// storeError is the error of a folder for kept configurations that cannot be
// read or written.
func (c *call) storeError(err error) error {
	return types.NewError(types.ErrIOFailure, err.Error(),
		fmt.Sprintf("%s must be a directory on a writable file system with room, or set dataDir in the network's configuration", c.store.Dir))
}
