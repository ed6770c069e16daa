package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd"
)

// With this variable the test binary runs the lease managers of so many nodes,
// all at once, against the etcd at etcdURLVariable.
const nodesVariable = "WEFT_E2E_NODES"

// raceTime is for every node to get a subnet, on a busy machine.
const raceTime = 120 * time.Second

// Nodes that register all at once get subnets of their own, also where there
// are hardly more subnets than nodes. They are managers in one process, each
// with its own connection; what they did is read from etcd without their code.
func TestManyRegistrationsRace(t *testing.T) {
	for _, test := range []struct {
		nodes   int
		subnets byte
		slow    bool // the work grows with the square of the nodes
	}{
		{nodes: 100, subnets: 102},
		{nodes: 200, subnets: 255, slow: true},
		{nodes: 250, subnets: 254, slow: true},
	} {
		if test.slow && !labtest.Full(t, fmt.Sprintf("%d nodes that register at once", test.nodes)) {
			continue
		}
		t.Run(strconv.Itoa(test.nodes), func(t *testing.T) {
			first, last := netip.MustParseAddr("10.5.1.0"), netip.AddrFrom4([4]byte{10, 5, test.subnets, 0})
			c := build(t, spec{hosts: 1, config: fmt.Sprintf(`{"Network": "10.5.0.0/16", "SubnetMax": "%s", "Backend": {"Type": "udp"}}`, last)})
			claims := c.register(test.nodes)
			leases := c.leases()
			if len(claims) != test.nodes || len(leases) != test.nodes {
				t.Errorf("%d nodes say that they hold a subnet and etcd has %d leases, want %d", len(claims), len(leases), test.nodes)
			}
			for node, s := range leases {
				if claims[node] != s {
					t.Errorf("node %s says that it holds %v, but in etcd it is %v", node, claims[node], s)
				}
				if s.Bits() != 24 || s.Addr().Less(first) || last.Less(s.Addr()) {
					t.Errorf("%v is none of the %d subnets", s, test.subnets)
				}
				for other, o := range leases {
					if node < other && s.Overlaps(o) {
						t.Errorf("%v of node %s overlaps %v of node %s", s, node, o, other)
					}
				}
			}
		})
	}
}

// register runs managers until each holds a subnet, and returns which ones.
func (c *cluster) register(nodes int) map[string]netip.Prefix {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	process, err := c.hosts[0].RunEnv("nodes", []string{
		nodesVariable + "=" + strconv.Itoa(nodes),
		etcdURLVariable + "=" + c.endpoint,
	}, self)
	if err != nil {
		c.t.Fatal(err)
	}
	if process.Err() != nil {
		c.t.Fatal(process.LogTail(1))
	}
	claims := map[string]netip.Prefix{}
	for line := range strings.Lines(process.LogTail(nodes)) {
		node, s, _ := strings.Cut(strings.TrimSpace(line), " ")
		if claims[node], err = netip.ParsePrefix(s); err != nil {
			c.t.Fatalf("the process of the managers wrote %q: %v", line, err)
		}
	}
	return claims
}

// leases reads the subnets leased, by node ID.
func (c *cluster) leases() map[string]netip.Prefix {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	resp, err := c.etcdClient().Get(ctx, subnetsKey, clientv3.WithPrefix())
	if err != nil {
		c.t.Fatal(err)
	}
	leases := map[string]netip.Prefix{}
	for _, kv := range resp.Kvs {
		var value struct{ NodeID string }
		if err := json.Unmarshal(kv.Value, &value); err != nil {
			c.t.Fatalf("%s: %v", kv.Key, err)
		}
		name := strings.TrimPrefix(string(kv.Key), subnetsKey)
		s, err := netip.ParsePrefix(strings.Replace(name, "-", "/", 1))
		if err != nil {
			c.t.Fatalf("%s: %v", kv.Key, err)
		}
		if other, twice := leases[value.NodeID]; twice {
			c.t.Errorf("node %s has %v and %v", value.NodeID, other, s)
		}
		leases[value.NodeID] = s
	}
	return leases
}

// registerNodes starts the managers of nodes, waits until each holds a subnet,
// prints their IDs and subnets, and ends them. Their leases stay.
func registerNodes(nodes, endpoint string) error {
	count, err := strconv.Atoi(nodes)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), raceTime)
	defer cancel()
	managers := make([]*subnet.Manager, count)
	for i := range managers {
		registry, err := etcd.New(etcd.Config{Endpoints: []string{endpoint}})
		if err != nil {
			return err
		}
		defer registry.Close()
		raw, err := registry.Config(ctx) // and so it is connected
		if err != nil {
			return err
		}
		config, err := subnet.ParseConfig(raw)
		if err != nil {
			return err
		}
		managers[i] = subnet.NewManager(subnet.Options{
			Registry: registry,
			Config:   config,
			Node:     subnet.Node{ID: crowdID(i), Instance: crowdID(i), Hostname: "node" + strconv.Itoa(i), PublicIP: crowdIP(i).String()},
			Attrs:    subnet.Attrs{PublicIP: crowdIP(i), BackendType: "udp"},
		})
	}

	begin := time.Now()
	var running, waiting sync.WaitGroup
	runCtx, stop := context.WithCancel(ctx)
	for _, m := range managers {
		running.Go(func() { m.Run(runCtx) })
		waiting.Go(func() {
			for !m.View().Held && ctx.Err() == nil {
				select {
				case <-m.Changed():
				case <-ctx.Done():
				}
			}
		})
	}
	waiting.Wait()
	took := time.Since(begin)
	stop()
	running.Wait()

	var missing []string
	for i, m := range managers {
		if v := m.View(); !v.Held {
			missing = append(missing, fmt.Sprintf("node %s: %s", crowdID(i), v.Problem))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("after %v, %d of %d nodes have no subnet, for instance %s", took.Round(time.Millisecond), len(missing), count, missing[0])
	}
	for i, m := range managers {
		fmt.Println(crowdID(i), m.View().Own.Subnet.IPv4)
	}
	return nil
}
