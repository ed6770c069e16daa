package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet/envfile"
)

// DefaultSocket is where dockerd listens unless it is told otherwise.
const DefaultSocket = "/run/docker.sock"

// Engine is a running dockerd on this host.
type Engine struct {
	socket string
	api    *client.Client

	// bridgesWith finds the bridges of this host that have an address of a network.
	bridgesWith func(Network) ([]string, error)
}

// Open connects to the engine that listens on a unix socket. Whether one does
// shows with the first request; such an error matches ErrNotRunning.
func Open(socket string) (*Engine, error) {
	api, err := client.New(client.WithHost("unix://" + socket))
	if err != nil {
		return nil, fmt.Errorf("use Docker's socket %s: %w", socket, err)
	}
	return &Engine{socket: socket, api: api, bridgesWith: bridgesWith}, nil
}

// Close ends the connections.
func (e *Engine) Close() error { return e.api.Close() }

// ErrNotRunning says that no engine answers on the socket.
var ErrNotRunning = errors.New("no Docker engine answers: start it (systemctl start docker), or say where its socket is with --docker-socket")

// explain makes an error of the API one that says what was tried.
func (e *Engine) explain(what string, err error) error {
	switch {
	case !client.IsErrConnectionFailed(err):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(unix.Access(e.socket, unix.W_OK), fs.ErrPermission): // of which the client tells in words only
		return fmt.Errorf("%s: %s: %w: run weftd as root, or as a user who may use Docker", what, e.socket, fs.ErrPermission)
	}
	return fmt.Errorf("%s: %s: %w", what, e.socket, ErrNotRunning)
}

// Version is the engine's version, "28.5.2" for instance.
func (e *Engine) Version(ctx context.Context) (string, error) {
	v, err := e.api.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return "", e.explain("ask Docker for its version", err)
	}
	return v.Version, nil
}

// Create makes the network, unless it is there as it should be, and says what it
// does, line by line. A network that weftd made for another lease, or that was
// changed, is made anew. With containers on it that is refused, unless force:
// then they are disconnected and connected again, which gives them other
// addresses, but for those that asked for one that the network still has. From
// then on the end of ctx ends nothing.
func (e *Engine) Create(ctx context.Context, n Network, force bool, say func(string)) error {
	have, err := e.free(ctx, n)
	if err != nil {
		return err
	}
	var off []endpoint
	if have != nil {
		differences := n.differences(*have)
		if len(differences) == 0 {
			say(fmt.Sprintf("network %s is there already: %s", n.Name, n))
			return nil
		}
		why := strings.Join(differences, "; ")
		if have.Labels[label] == "" {
			return fmt.Errorf("a network %s is there that weftd did not make, and it does not fit: %s; choose another name, or remove it (docker network rm %s)", n.Name, why, n.Name)
		}
		if off, err = e.clear(ctx, *have, "does not fit any more ("+why+")", force, say); err != nil {
			return err
		}
		say(fmt.Sprintf("removed network %s: %s", n.Name, why))
		var cancel context.CancelFunc
		ctx, cancel = persist(ctx)
		defer cancel()
	}
	created, err := e.api.NetworkCreate(ctx, n.Name, n.request())
	if err != nil {
		return errors.Join(e.explain("create network "+n.Name, err), stranded(n.Name, off))
	}
	say(fmt.Sprintf("created network %s: %s", n.Name, n))
	for _, w := range created.Warning {
		say("Docker warns: " + w)
	}
	for i := range off {
		off[i].config.IPAMConfig = n.has(off[i].config.IPAMConfig)
	}
	return e.connect(ctx, n.Name, off, say)
}

// Remove removes a network that weftd made, and says what it does; one that is
// not there is no error. With containers on it that is refused, unless force:
// then they are disconnected.
func (e *Engine) Remove(ctx context.Context, name string, force bool, say func(string)) error {
	have, err := e.find(ctx, name)
	if err != nil {
		return err
	}
	if have == nil {
		say("there is no network " + name)
		return nil
	}
	if have.Labels[label] == "" {
		return fmt.Errorf("weftd did not make network %s; to remove it all the same: docker network rm %s", name, name)
	}
	if _, err := e.clear(ctx, *have, "cannot be removed", force, say); err != nil {
		return err
	}
	say("removed network " + name)
	return nil
}

// FreeForDocker0 makes sure that nothing but docker0 has addresses of the leased
// subnet, as far as can be told: an engine that does not answer is an error that
// matches ErrNotRunning, or the context's.
func (e *Engine) FreeForDocker0(ctx context.Context, f envfile.File) error {
	n := NetworkFor("docker0", f)
	devices, err := e.bridgesWith(n)
	if err != nil {
		return err
	}
	list, err := e.list(ctx)
	for _, other := range list {
		if other.Name != "bridge" && n.overlaps(other) {
			return fmt.Errorf("network %s of Docker's is on the leased subnet %s, which serves one bridge: to have docker0 there instead, remove the network first (`weftd docker-network remove %s`, or docker network rm %s)", other.Name, n.Subnet, other.Name, other.Name)
		}
	}
	for _, d := range devices {
		if d != "docker0" {
			return errTaken(d, n)
		}
	}
	return err
}

func errTaken(bridge string, n Network) error {
	return fmt.Errorf("bridge %s has an address of the leased subnet %s, which serves one bridge: take whatever uses it off the subnet first, and delete it if nothing does (ip link del %s)", bridge, n.Subnet, bridge)
}

// free makes sure that nothing else has addresses of n, and returns the network
// of that name, if there is one.
func (e *Engine) free(ctx context.Context, n Network) (have *network.Network, err error) {
	list, err := e.list(ctx)
	if err != nil {
		return nil, err
	}
	own := ""
	for _, other := range list {
		switch {
		case other.Name == n.Name:
			have, own = &other, bridge(other)
		case other.Name == "bridge" && n.overlaps(other):
			return nil, fmt.Errorf("docker0 is on the leased subnet %s, which serves one bridge: to have network %s instead, take bip, mtu, ip-masq (and ipv6, fixed-cidr-v6) out of Docker's daemon.json or options, and restart Docker", n.Subnet, n.Name)
		case n.overlaps(other):
			return nil, fmt.Errorf("network %s of Docker's has addresses of the leased subnet %s, which serves one bridge: remove it first (`weftd docker-network remove %s`, or docker network rm %s)", other.Name, n.Subnet, other.Name, other.Name)
		}
	}
	devices, err := e.bridgesWith(n)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		if d != own {
			return nil, errTaken(d, n)
		}
	}
	return have, nil
}

func (e *Engine) list(ctx context.Context) ([]network.Network, error) {
	list, err := e.api.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, e.explain("list Docker's networks", err)
	}
	var networks []network.Network
	for _, s := range list.Items {
		networks = append(networks, s.Network)
	}
	return networks, nil
}

func (e *Engine) find(ctx context.Context, name string) (*network.Network, error) {
	list, err := e.list(ctx)
	for _, n := range list {
		if n.Name == name {
			return &n, nil
		}
	}
	return nil, err
}
