package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// restoring is how long it may take to move containers from a network to its
// successor, or back.
const restoring = 2 * time.Minute

// An endpoint is a container on a network, running or not.
type endpoint struct {
	id, name string
	config   network.EndpointSettings // what its user asked for, to connect it again
}

// attached lists the containers of a network. One that is stopped counts: it
// could not be started without it.
func (e *Engine) attached(ctx context.Context, n network.Network) ([]endpoint, error) {
	list, err := e.api.ContainerList(ctx, client.ContainerListOptions{
		All:     true,
		Filters: client.Filters{}.Add("network", n.ID),
	})
	if err != nil {
		return nil, e.explain("list the containers of network "+n.Name, err)
	}
	var attached []endpoint
	for _, c := range list.Items {
		p := endpoint{id: c.ID, name: c.ID[:min(12, len(c.ID))]}
		if len(c.Names) > 0 {
			p.name = strings.TrimPrefix(c.Names[0], "/")
		}
		full, err := e.api.ContainerInspect(ctx, c.ID, client.ContainerInspectOptions{})
		if errdefs.IsNotFound(err) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, e.explain("look at container "+p.name, err)
		}
		if s := full.Container.NetworkSettings; s != nil && s.Networks[n.Name] != nil {
			p.config = wishes(c.ID, s.Networks[n.Name])
		}
		attached = append(attached, p)
	}
	return attached, nil
}

// wishes are what the user of a container asked for on a network, without what
// became of it.
func wishes(id string, s *network.EndpointSettings) network.EndpointSettings {
	return network.EndpointSettings{
		IPAMConfig: s.IPAMConfig, Links: s.Links, DriverOpts: s.DriverOpts, GwPriority: s.GwPriority,
		// Docker adds the short ID by itself, and some versions list it here.
		Aliases: slices.DeleteFunc(slices.Clone(s.Aliases), func(a string) bool {
			return strings.HasPrefix(id, a)
		}),
	}
}

// clear removes a network and returns what was connected to it. Where that
// fails half-way, the containers are on it again.
func (e *Engine) clear(ctx context.Context, n network.Network, why string, force bool, say func(string)) (off []endpoint, err error) {
	attached, err := e.attached(ctx, n)
	if err != nil {
		return nil, err
	}
	if len(attached) > 0 && !force {
		return nil, fmt.Errorf("network %s %s, but containers are on it: %s; disconnect or remove them first, or use --force, which disconnects them", n.Name, why, names(attached))
	}
	ctx, cancel := persist(ctx)
	defer cancel()
	for _, c := range attached {
		_, err := e.api.NetworkDisconnect(ctx, n.ID, client.NetworkDisconnectOptions{Container: c.id, Force: true})
		switch {
		case errdefs.IsNotFound(err):
			continue // removed meanwhile
		case err != nil:
			return nil, errors.Join(e.explain("disconnect "+c.name+" from network "+n.Name, err), e.connect(ctx, n.Name, off, say))
		}
		off = append(off, c)
		say("disconnected " + c.name + " from network " + n.Name)
	}
	if _, err := e.api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{}); err != nil {
		return nil, errors.Join(e.explain("remove network "+n.Name, err), e.connect(ctx, n.Name, off, say))
	}
	return off, nil
}

// connect puts containers on a network, those first that want a certain
// address. One that fails does not keep the others off.
func (e *Engine) connect(ctx context.Context, name string, off []endpoint, say func(string)) error {
	var errs []error
	var lost []endpoint
	wanting := func(c endpoint) bool { return c.config.IPAMConfig != nil }
	for _, first := range []bool{true, false} {
		for _, c := range off {
			if wanting(c) != first {
				continue
			}
			_, err := e.api.NetworkConnect(ctx, name, client.NetworkConnectOptions{Container: c.id, EndpointConfig: &c.config})
			if err != nil {
				errs, lost = append(errs, e.explain("connect "+c.name+" to network "+name, err)), append(lost, c)
				continue
			}
			say("connected " + c.name + " to network " + name + " again")
		}
	}
	return errors.Join(append(errs, stranded(name, lost))...)
}

// persist is for what must not end half-way: it does not heed that ctx ends.
func persist(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), restoring)
}

func names(endpoints []endpoint) string {
	var all []string
	for _, c := range endpoints {
		all = append(all, c.name)
	}
	return strings.Join(all, ", ")
}

// stranded is the error that says which containers have lost their network.
func stranded(name string, endpoints []endpoint) error {
	if len(endpoints) == 0 {
		return nil
	}
	return fmt.Errorf("not on network %s now: %s; when the network is there, connect them by hand (docker network connect %s CONTAINER)", name, names(endpoints), name)
}
