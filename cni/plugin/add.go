package plugin

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/cni/netconf"
)

// add attaches a container. After a failure nothing of it is left, unless the
// delegate's DEL fails too; then the kept configuration stays for the next DEL.
func (c *call) add() error {
	env, err := c.subnet(types.ErrTryAgainLater)
	if err != nil {
		return err
	}
	conf, err := c.network.Complete(env)
	if err != nil {
		return err
	}
	if err := c.findPlugins(conf); err != nil {
		return err
	}
	if err := c.checkInterfaceIsFree(); err != nil {
		return err
	}
	// From here to the end GC must not run: it would free the address, since no
	// runtime can name an attachment that is not done yet.
	release, err := c.store.Share()
	if err != nil {
		return c.storeError(err)
	}
	defer release()
	c.releaseStale()
	if err := c.store.Save(c.attachment(), conf.Bytes()); err != nil {
		return c.storeError(err)
	}
	if err := giveMAC(conf.Bridge); err != nil {
		fmt.Fprintf(c.Stderr, "the bridge plugin may not be able to use its bridge: %v\n", err)
	}
	result, err := c.caller.Add(c.ctx, conf.Type, conf.Bytes(), c.environment())
	if err == nil {
		err = c.print(result)
	}
	if err == nil {
		return nil
	}
	c.undoAdd(conf)
	return err
}

// undoAdd calls the delegate with DEL, as CNI 1.1 asks for in section 4. What
// it cannot remove is told on stderr: the error to return is that of ADD.
func (c *call) undoAdd(conf netconf.Delegate) {
	err := c.caller.Call(c.ctx, "DEL", conf.Type, conf.Bytes(), c.environment())
	var e *types.Error
	if errors.As(err, &e) && e.Code == types.ErrIncompatibleCNIVersion {
		err = nil // a plugin that does not speak the version has made nothing
	}
	if err == nil {
		err = c.store.Remove(c.attachment())
	}
	if err != nil {
		fmt.Fprintf(c.Stderr, "undo the failed ADD: %v\n", err)
	}
}

// checkInterfaceIsFree keeps a second ADD from harming what the first one made:
// the delegate would fail, and be undone.
func (c *call) checkInterfaceIsFree() error {
	exists, err := interfaceExists(c.args.Netns, c.args.IfName)
	if err != nil {
		return types.NewError(types.ErrInvalidNetNS, fmt.Sprintf("look into the container's network namespace: %v", err), "CNI_NETNS must be the path of a network namespace")
	}
	if exists {
		return types.NewError(types.ErrInvalidEnvironmentVariables, fmt.Sprintf("container %s has an interface %s already", c.args.ContainerID, c.args.IfName),
			"call DEL for it first, or give the new one another name (CNI_IFNAME)")
	}
	return nil
}

// releaseStale frees the address of an attachment that was never deleted, as
// after a power failure under runtimes that give a container its ID again. Its
// interface is gone, as checkInterfaceIsFree has seen. If it fails, GC still
// finds the address.
//
// What flannel's plugin kept is left alone: it may be of another interface of
// the container, which is in use.
func (c *call) releaseStale() {
	stale, err := c.load(c.store.Load, c.attachment())
	if errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err == nil {
		gone := c.environment()
		gone.NetNS = ""
		err = c.caller.Call(c.ctx, "DEL", stale.Type, stale.Bytes(), gone)
	}
	if err == nil {
		err = c.store.Remove(c.attachment()) // with its second name
	}
	if err != nil {
		fmt.Fprintf(c.Stderr, "release what an earlier container of this ID left: %v\n", err)
	}
}

// print writes the result in the version that the runtime speaks.
func (c *call) print(result types.Result) error {
	version := c.network.CNIVersion
	if version == "" {
		version = "0.1.0"
	}
	converted, err := result.GetAsVersion(version)
	if err != nil {
		return types.NewError(types.ErrIncompatibleCNIVersion, fmt.Sprintf("convert the delegate's result: %v", err), "set another cniVersion in the network's configuration")
	}
	if err := converted.PrintTo(c.Stdout); err != nil {
		return types.NewError(types.ErrIOFailure, fmt.Sprintf("write the result: %v", err), "the runtime must read it")
	}
	return nil
}
