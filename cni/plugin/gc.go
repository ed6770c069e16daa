package plugin

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/cni/delegate"
	"github.com/weftnet/weft/cni/hostlocal"
	"github.com/weftnet/weft/cni/netconf"
	"github.com/weftnet/weft/cni/scratch"
)

// gc removes what is left of attachments that the runtime does not name. It
// goes on after an error and returns all of them.
//
// The reference plugins (1.9) answer GC, but bridge does not hand it to
// host-local, and both do nothing. So each attachment is deleted by itself.
//
// No address of a container that the runtime names is freed, and none of one
// that is being attached: the runtime must run GC alone (CNI 1.1, section 3,
// Lifecycle & Ordering), and the store sees to it.
func (c *call) gc() error {
	release, err := c.store.Exclude()
	if errors.Is(err, scratch.ErrBusy) {
		return types.NewError(types.ErrTryAgainLater, err.Error(), "the runtime must call GC when it calls nothing else: call it again")
	}
	if err != nil {
		return c.storeError(err)
	}
	defer release()
	errs := c.deleteKept()
	conf, err := c.gcConf()
	if err != nil {
		return joined(append(errs, err))
	}
	if conf.IPAM.Type == "host-local" {
		errs = append(errs, c.releaseAddresses(conf.IPAM.DataDir)...)
	}
	conf = conf.WithAttachments(c.network.ValidAttachments)
	if err := c.caller.CallIfKnown(c.ctx, "GC", conf.Type, conf.Bytes()); err != nil {
		errs = append(errs, err)
	}
	return joined(errs)
}

// gcConf is complete where it can be.
func (c *call) gcConf() (netconf.Delegate, error) {
	env, err := c.subnet(types.ErrTryAgainLater)
	if err != nil {
		return c.network.Incomplete()
	}
	return c.network.Complete(env)
}

// deleteKept calls DEL for the attachments of this network that have a kept
// configuration and are not valid.
func (c *call) deleteKept() (errs []error) {
	all, err := c.store.List()
	if err != nil {
		return []error{c.storeError(err)}
	}
	for _, a := range all {
		if c.network.Valid(a.ContainerID, a.IfName) {
			continue
		}
		conf, err := c.kept(a)
		if errors.Is(err, fs.ErrNotExist) || err == nil && conf.Name != c.network.Name {
			continue // unreadable, or of another network
		}
		if err == nil {
			err = c.deleteStale(a, conf)
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// deleteStale calls DEL without a namespace, which is gone as far as GC goes.
func (c *call) deleteStale(a scratch.Attachment, conf netconf.Delegate) error {
	// Flannel's plugin did not keep the name. If it was another one,
	// releaseAddresses still finds the address.
	env := delegate.Attachment{ContainerID: a.ContainerID, IfName: orEth0(a.IfName)}
	if err := c.caller.Call(c.ctx, "DEL", conf.Type, conf.Bytes(), env); err != nil {
		return err
	}
	if err := c.store.Remove(a); err != nil {
		return c.storeError(err)
	}
	return nil
}

// releaseAddresses frees addresses that host-local has given to attachments
// that are not valid, whether or not their configuration was kept.
func (c *call) releaseAddresses(dataDir string) (errs []error) {
	all, err := hostlocal.List(dataDir, c.network.Name)
	if err == nil {
		err = hostlocal.RemoveEmpty(dataDir, c.network.Name)
	}
	if err != nil {
		return []error{types.NewError(types.ErrIOFailure, err.Error(), "dataDir in the network's ipam must be the directory of host-local")}
	}
	for _, r := range all {
		if c.network.Valid(r.ContainerID, r.IfName) {
			continue
		}
		conf := c.network.HostLocal(dataDir, hostlocal.ReleaseRange(r.Addr))
		env := delegate.Attachment{ContainerID: r.ContainerID, IfName: orEth0(r.IfName)}
		if err := c.caller.Call(c.ctx, "DEL", "host-local", conf, env); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// orEth0 is for what old plugins kept without the interface's name, which must
// not be empty. Host-local then looks for the container alone.
func orEth0(ifName string) string {
	if ifName == "" {
		return "eth0"
	}
	return ifName
}

// joined makes one error of several; the code is the first one's.
func joined(errs []error) error {
	if len(errs) < 2 {
		return errors.Join(errs...)
	}
	var first *types.Error
	code := uint(types.ErrInternal)
	if errors.As(errs[0], &first) {
		code = first.Code
	}
	var texts []string
	for _, err := range errs {
		texts = append(texts, err.Error())
	}
	return types.NewError(code, fmt.Sprintf("%d things could not be collected", len(errs)), strings.Join(texts, "\n"))
}
