package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// fakeEngine answers as dockerd does, as far as this package asks.
type fakeEngine struct {
	mu         sync.Mutex
	networks   []network.Network
	containers []container.Summary // on every network
	refuse     string              // what fails: "POST /networks/create", or "connect" and a container
	did        []string            // requests that change something, and of whom
	created    network.CreateRequest
}

func (f *fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := r.URL.Path
	if rest, ok := strings.CutPrefix(path, "/v1.41"); ok {
		path = rest
	}
	answer := func(v any) { json.NewEncoder(w).Encode(v) }
	switch request := r.Method + " " + path; {
	case request == f.refuse:
		w.WriteHeader(http.StatusInternalServerError)
		answer(map[string]string{"message": "it is not to be"})
	case path == "/_ping":
		w.Header().Set("Api-Version", "1.41")
	case path == "/version":
		answer(map[string]string{"Version": "20.10.24"})
	case request == "GET /networks":
		answer(f.networks)
	case request == "GET /containers/json":
		answer(f.containers)
	case r.Method == "GET" && strings.HasPrefix(path, "/containers/"):
		id := strings.Split(path, "/")[2]
		weft := network.EndpointSettings{Aliases: []string{"db", id[:12]}, IPAddress: netip.MustParseAddr("10.5.34.2")}
		if id == staticID {
			asked := f.networks[0].IPAM.Config[0].Gateway.As4()
			asked[3] = 50
			weft.IPAMConfig = &network.EndpointIPAMConfig{IPv4Address: netip.AddrFrom4(asked)}
		}
		answer(container.InspectResponse{ID: id, NetworkSettings: &container.NetworkSettings{
			Networks: map[string]*network.EndpointSettings{"weft": &weft},
		}})
	case request == "POST /networks/create":
		json.NewDecoder(r.Body).Decode(&f.created)
		f.did = append(f.did, "create "+f.created.Name)
		answer(network.CreateResponse{ID: "new"})
	case strings.HasSuffix(path, "connect"): // and disconnect
		var c struct {
			Container      string
			EndpointConfig *network.EndpointSettings
		}
		json.NewDecoder(r.Body).Decode(&c)
		did := filepath.Base(path) + " " + c.Container
		if did == f.refuse {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		if c.EndpointConfig != nil {
			did += " as " + strings.Join(c.EndpointConfig.Aliases, ",")
			if asked := c.EndpointConfig.IPAMConfig; asked != nil {
				did += " at " + asked.IPv4Address.String()
			}
		}
		f.did = append(f.did, did)
	case r.Method == "DELETE":
		f.did = append(f.did, "remove "+filepath.Base(path))
	default:
		w.WriteHeader(http.StatusNotFound)
		answer(map[string]string{"message": "no such thing: " + request})
	}
}

// open starts the fake and returns an Engine that talks to it. Bridges are those
// that the host has on the leased subnet.
func (f *fakeEngine) open(t *testing.T, bridges ...string) *Engine {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := http.Server{Handler: f}
	done := make(chan error)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	e, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	e.bridgesWith = func(Network) ([]string, error) { return bridges, nil }
	return e
}

const (
	containerID = "0123456789abcdef0123456789abcdef"
	staticID    = "fedcba9876543210fedcba9876543210" // asked for the address .50 of its network
)

var (
	oneContainer  = []container.Summary{{ID: containerID, Names: []string{"/db1"}}}
	twoContainers = append(oneContainer[:1:1], container.Summary{ID: staticID, Names: []string{"/db2"}})
)

// existing is a network as Docker lists it.
func existing(name, subnet string, change ...func(*network.Network)) network.Network {
	p := netip.MustParsePrefix(subnet)
	n := network.Network{
		Name: name, ID: "feedfacecafe0123", Driver: "bridge",
		IPAM:    network.IPAM{Config: []network.IPAMConfig{{Subnet: p.Masked(), Gateway: p.Addr()}}},
		Options: NetworkFor(name, ipv4).driverOptions(),
		Labels:  map[string]string{label: "network"},
	}
	for _, c := range change {
		c(&n)
	}
	return n
}

func byHand(n *network.Network)       { n.Labels = nil }
func wrongMTU(n *network.Network)     { n.Options[optionMTU] = "1500" }
func madeInternal(n *network.Network) { n.Internal = true }

func TestCreate(t *testing.T) {
	const right, former = "10.5.34.1/24", "10.5.9.1/24"
	off, on := "disconnect "+containerID, "connect "+containerID+" as db"
	offStatic, onStatic := "disconnect "+staticID, "connect "+staticID+" as db"
	const remove, create = "remove feedfacecafe0123", "create weft"
	reconnected := []string{off, remove, create, on}
	for _, c := range []struct {
		name       string
		networks   []network.Network
		bridges    []string
		containers []container.Summary
		force      bool
		refuse     string
		did        []string
		says       string // in what was done, or in the error
		fails      bool
	}{
		{name: "new", networks: []network.Network{existing("bridge", "172.17.0.1/16")}, did: []string{"create weft"}, says: "created network weft: 10.5.34.0/24, gateway 10.5.34.1, MTU 1472"},
		{name: "as it should be", networks: []network.Network{existing("weft", right)}, bridges: []string{"br-feedfacecafe"}, containers: oneContainer, says: "is there already"},
		{name: "made by hand, as it should be", networks: []network.Network{existing("weft", right, byHand)}, says: "is there already"},
		{name: "made by hand, another", networks: []network.Network{existing("weft", right, byHand, wrongMTU)}, fails: true, says: "weftd did not make"},
		{name: "former lease", networks: []network.Network{existing("weft", former)}, did: []string{"remove feedfacecafe0123", "create weft"}, says: "its subnet is 10.5.9.0/24 with gateway 10.5.9.1"},
		{name: "another MTU", networks: []network.Network{existing("weft", right, wrongMTU)}, did: []string{"remove feedfacecafe0123", "create weft"}, says: `com.docker.network.driver.mtu is "1500", not "1472"`},
		{name: "internal", networks: []network.Network{existing("weft", right, madeInternal)}, did: []string{"remove feedfacecafe0123", "create weft"}, says: "internal true"},
		{name: "former lease in use", networks: []network.Network{existing("weft", former)}, containers: oneContainer, fails: true, says: "containers are on it: db1; "},
		{name: "former lease in use, forced", networks: []network.Network{existing("weft", former)}, containers: oneContainer, force: true, did: reconnected, says: "connected db1 to network weft again"},
		{name: "former lease, a container with an address of its own", networks: []network.Network{existing("weft", former)}, containers: twoContainers, force: true, did: []string{off, offStatic, remove, create, on, onStatic}, says: "connected db2"},
		{name: "another MTU, a container with an address of its own", networks: []network.Network{existing("weft", right, wrongMTU)}, containers: twoContainers, force: true, did: []string{off, offStatic, remove, create, onStatic + " at 10.5.34.50", on}, says: "connected db2"},
		{name: "forced, and create fails", networks: []network.Network{existing("weft", former)}, containers: oneContainer, force: true, refuse: "POST /networks/create", did: reconnected[:2], fails: true, says: "not on network weft now: db1; "},
		{name: "forced, and connect fails", networks: []network.Network{existing("weft", former)}, containers: oneContainer, force: true, refuse: "POST /networks/weft/connect", did: reconnected[:3], fails: true, says: "not on network weft now: db1; "},
		{name: "forced, and one of two connects fails", networks: []network.Network{existing("weft", former)}, containers: twoContainers, force: true, refuse: "connect " + containerID, did: []string{off, offStatic, remove, create, onStatic}, fails: true, says: "not on network weft now: db1; "},
		{name: "forced, and a disconnect fails", networks: []network.Network{existing("weft", former)}, containers: twoContainers, force: true, refuse: "disconnect " + staticID, did: []string{off, on}, fails: true, says: "disconnect db2 from network weft: "},
		{name: "forced, and remove fails", networks: []network.Network{existing("weft", former)}, containers: oneContainer, force: true, refuse: "DELETE /networks/feedfacecafe0123", did: []string{off, on}, fails: true, says: "remove network weft: "},
		{name: "docker0 holds it", networks: []network.Network{existing("bridge", right)}, fails: true, says: "take bip, mtu, ip-masq"},
		{name: "another network holds it", networks: []network.Network{existing("other", "10.5.34.129/25")}, fails: true, says: "network other of Docker's has addresses"},
		{name: "a bridge of others holds it", bridges: []string{"cni0"}, fails: true, says: "bridge cni0 has an address"},
		{name: "create fails", refuse: "POST /networks/create", fails: true, says: "create network weft: "},
		{name: "list fails", refuse: "GET /networks", fails: true, says: "list Docker's networks: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeEngine{networks: c.networks, containers: c.containers, refuse: c.refuse}
			var said []string
			err := f.open(t, c.bridges...).Create(t.Context(), NetworkFor("weft", ipv4), c.force, func(line string) { said = append(said, line) })
			text := strings.Join(said, "\n")
			if err != nil {
				text = err.Error()
			}
			if (err != nil) != c.fails || !strings.Contains(text, c.says) {
				t.Errorf("%s (error %v), want %q (error %v)", text, err, c.says, c.fails)
			}
			if !slices.Equal(f.did, c.did) {
				t.Errorf("it did %q, want %q", f.did, c.did)
			}
		})
	}
}

// Who gives up waiting does not leave containers without their network.
func TestCreateIsInterrupted(t *testing.T) {
	f := &fakeEngine{networks: []network.Network{existing("weft", "10.5.9.1/24")}, containers: oneContainer}
	ctx, interrupt := context.WithCancel(t.Context())
	err := f.open(t).Create(ctx, NetworkFor("weft", ipv4), true, func(string) { interrupt() })
	want := []string{"disconnect " + containerID, "remove feedfacecafe0123", "create weft", "connect " + containerID + " as db"}
	if err != nil || !slices.Equal(f.did, want) {
		t.Errorf("%v, it did %q, want %q", err, f.did, want)
	}
}

func TestCreateRequest(t *testing.T) {
	f := &fakeEngine{}
	if err := f.open(t).Create(t.Context(), NetworkFor("weft", dual), false, func(string) {}); err != nil {
		t.Fatal(err)
	}
	six := true
	want := network.CreateRequest{
		Name: "weft", Driver: "bridge", EnableIPv6: &six,
		IPAM: &network.IPAM{Driver: "default", Config: []network.IPAMConfig{
			{Subnet: netip.MustParsePrefix("10.5.34.0/24"), Gateway: netip.MustParseAddr("10.5.34.1")},
			{Subnet: netip.MustParsePrefix("fd00:5:0:22::/64"), Gateway: netip.MustParseAddr("fd00:5:0:22::1")},
		}},
		Options: map[string]string{
			"com.docker.network.driver.mtu":                     "1452",
			"com.docker.network.bridge.enable_ip_masquerade":    "true",
			"com.docker.network.bridge.trusted_host_interfaces": "flannel0:flannel.1:flannel-v6.1",
		},
		Labels: map[string]string{"io.github.weftnet.weft": "network"},
	}
	if !reflect.DeepEqual(f.created, want) {
		t.Errorf("asked for %+v, want %+v", f.created, want)
	}
}

func TestRemove(t *testing.T) {
	for _, c := range []struct {
		name       string
		networks   []network.Network
		containers []container.Summary
		force      bool
		did        []string
		says       string
		fails      bool
	}{
		{name: "none", says: "there is no network weft"},
		{name: "ours", networks: []network.Network{existing("weft", "10.5.9.1/24")}, did: []string{"remove feedfacecafe0123"}, says: "removed network weft"},
		{name: "by hand", networks: []network.Network{existing("weft", "10.5.34.1/24", byHand)}, fails: true, says: "docker network rm weft"},
		{name: "in use", networks: []network.Network{existing("weft", "10.5.34.1/24")}, containers: oneContainer, fails: true, says: "containers are on it: db1; "},
		{name: "in use, forced", networks: []network.Network{existing("weft", "10.5.34.1/24")}, containers: oneContainer, force: true,
			did: []string{"disconnect " + containerID, "remove feedfacecafe0123"}, says: "disconnected db1 from network weft\nremoved network weft"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeEngine{networks: c.networks, containers: c.containers}
			var said []string
			err := f.open(t).Remove(t.Context(), "weft", c.force, func(line string) { said = append(said, line) })
			text := strings.Join(said, "\n")
			if err != nil {
				text = err.Error()
			}
			if (err != nil) != c.fails || !strings.Contains(text, c.says) || !slices.Equal(f.did, c.did) {
				t.Errorf("%s (error %v), did %q; want %q (error %v), %q", text, err, f.did, c.says, c.fails, c.did)
			}
		})
	}
}

func TestFreeForDocker0(t *testing.T) {
	for _, c := range []struct {
		name     string
		networks []network.Network
		bridges  []string
		says     string
	}{
		{"free", []network.Network{existing("bridge", "172.17.0.1/16"), existing("other", "172.18.0.1/16")}, nil, ""},
		{"docker0 is there", []network.Network{existing("bridge", "10.5.34.1/24")}, []string{"docker0"}, ""},
		{"a network of ours", []network.Network{existing("weft", "10.5.34.1/24")}, []string{"br-feedfacecafe"}, "docker-network remove weft"},
		{"a bridge of others", nil, []string{"docker0", "cni0"}, "bridge cni0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fakeEngine{networks: c.networks}
			err := f.open(t, c.bridges...).FreeForDocker0(t.Context(), ipv4)
			if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%v, want %q", err, c.says)
			}
		})
	}
}

// Without an answer the host's bridges still tell.
func TestEngineDoesNotAnswer(t *testing.T) {
	t.Run("no socket", func(t *testing.T) {
		e, err := Open(filepath.Join(t.TempDir(), "none.sock"))
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		e.bridgesWith = func(Network) ([]string, error) { return nil, nil }
		if err := e.FreeForDocker0(t.Context(), ipv4); !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "none.sock") {
			t.Errorf("%v, want that no engine answers there", err)
		}
		e.bridgesWith = func(Network) ([]string, error) { return []string{"cni0"}, nil }
		if err := e.FreeForDocker0(t.Context(), ipv4); errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "cni0") {
			t.Errorf("%v, want cni0 named", err)
		}
	})
	t.Run("systemd holds the socket", func(t *testing.T) {
		socket := filepath.Join(t.TempDir(), "docker.sock")
		l, err := net.Listen("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		e, err := Open(socket)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		e.bridgesWith = func(Network) ([]string, error) { return nil, nil }
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := e.FreeForDocker0(ctx, ipv4); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want %v", err, context.DeadlineExceeded)
		}
	})
}

// A user who may not use Docker is not told to start it.
func TestEngineNotAllowed(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	e, err := Open(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	_, failed := e.api.Ping(t.Context(), client.PingOptions{})
	explained := make(chan error)
	go func() {
		// Root may do everything, so be nobody, in a thread that is not used again.
		runtime.LockOSThread()
		if os.Geteuid() == 0 {
			const nobody = 65534
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				explained <- errno
				return
			}
		}
		explained <- e.explain("ask Docker", failed)
	}()
	if err := <-explained; !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "as root") {
		t.Errorf("%v, want that it is not permitted", err)
	}
}
