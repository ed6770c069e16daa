package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// An endpoint is a container on a network, running or not.
type endpoint struct {
	id, name string
	aliases  []string // its names on the network, beside its own
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
		if err != nil {
			return nil, e.explain("look at container "+p.name, err)
		}
		if s := full.Container.NetworkSettings; s != nil && s.Networks[n.Name] != nil {
			// Docker adds the short ID by itself, and some versions list it here.
			p.aliases = slices.DeleteFunc(slices.Clone(s.Networks[n.Name].Aliases), func(a string) bool {
				return strings.HasPrefix(c.ID, a)
			})
		}
		attached = append(attached, p)
	}
	return attached, nil
}

func (e *Engine) connect(ctx context.Context, name string, c endpoint) error {
	_, err := e.api.NetworkConnect(ctx, name, client.NetworkConnectOptions{
		Container:      c.id,
		EndpointConfig: &network.EndpointSettings{Aliases: c.aliases},
	})
	if err != nil {
		return e.explain("connect "+c.name+" to network "+name, err)
	}
	return nil
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
	return fmt.Errorf("not on a network now: %s; connect them by hand (docker network connect %s CONTAINER)", names(endpoints), name)
}
