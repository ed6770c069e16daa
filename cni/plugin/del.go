package plugin

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"
)

// del detaches a container with the configuration that it was attached with.
// Without one it does what it can and succeeds: CNI wants DEL to be repeatable.
func (c *call) del() error {
	conf, err := c.kept(c.attachment())
	if errors.Is(err, fs.ErrNotExist) {
		c.delWithoutState()
		return c.forget()
	}
	if err != nil {
		return err
	}
	conf = conf.WithResult(c.network.CNIVersion, c.network.PrevResult)
	if err := c.caller.Call(c.ctx, "DEL", conf.Type, conf.Bytes(), c.environment()); err != nil {
		return err
	}
	return c.forget()
}

// forget also removes a file that could not be used.
func (c *call) forget() error {
	if err := c.store.Remove(c.attachment()); err != nil {
		return c.storeError(err)
	}
	return nil
}

// delWithoutState calls the delegate as an ADD now would. Usually there is
// nothing to do: DEL is repeated, or ADD was refused. But if the kept
// configuration was lost, this frees the container's address.
func (c *call) delWithoutState() {
	env, err := c.subnet(types.ErrTryAgainLater)
	if err != nil {
		return
	}
	conf, err := c.network.Complete(env)
	if err != nil {
		return
	}
	conf = conf.WithResult(c.network.CNIVersion, c.network.PrevResult)
	if err := c.caller.Call(c.ctx, "DEL", conf.Type, conf.Bytes(), c.environment()); err != nil {
		fmt.Fprintf(c.Stderr, "container %s is not known here; tried all the same: %v\n", c.args.ContainerID, err)
	}
}
