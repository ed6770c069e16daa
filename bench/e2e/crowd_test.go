package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The crowd are nodes that exist in etcd only: node i, from 0, has the i-th
// subnet of 10.64.0.0/10 and an address of 172.16.0.0/12, where nothing is sent.

// crowdConfig is a network with room for 10,000 such nodes and more. The
// weftd under test gets a subnet of 10.127.0.0/16, which the crowd never has.
const crowdConfig = `{"Network": "10.64.0.0/10", "SubnetMin": "10.127.0.0", "SubnetMax": "10.127.255.0", "Backend": {"Type": "udp"}}`

func crowdSubnet(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0}), 24)
}

func crowdIP(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)})
}

// leaseOf is the key and value of a crowd node's lease, which may be elsewhere
// than crowdIP.
func leaseOf(i int, publicIP netip.Addr) (key, value string) {
	s := crowdSubnet(i)
	return fmt.Sprintf("%s%s-%d", subnetsKey, s.Addr(), s.Bits()),
		fmt.Sprintf(`{"PublicIP":"%s","PublicIPv6":null,"NodeID":"%s","BackendType":"udp","BackendData":{"weft":1}}`, publicIP, crowdID(i))
}

// aliveOf is the key and value by which a crowd node is announced.
func aliveOf(i int) (key, value string) {
	return aliveKey + crowdID(i),
		fmt.Sprintf(`{"ID":"%s","Instance":"%026d","Hostname":"node%d","PublicIP":"%s"}`, crowdID(i), i, i, crowdIP(i))
}

const aliveKey = "/coreos.com/network/weft/alive/"

func crowdID(i int) string { return fmt.Sprintf("%032x", i) }

// crowd writes the nodes 0 to count-1 into etcd, and returns the etcd lease
// that their keys are attached to.
func (c *cluster) crowd(etcd *clientv3.Client, count int) clientv3.LeaseID {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	granted, err := etcd.Grant(ctx, int64(time.Hour/time.Second))
	if err != nil {
		c.t.Fatal(err)
	}
	var puts []clientv3.Op
	for i := range count {
		key, value := leaseOf(i, crowdIP(i))
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(granted.ID)))
		key, value = aliveOf(i)
		puts = append(puts, clientv3.OpPut(key, value, clientv3.WithLease(granted.ID)))
	}
	for batch := range slices.Chunk(puts, 128) { // etcd takes no more at once
		if _, err := etcd.Txn(ctx).Then(batch...).Commit(); err != nil {
			c.t.Fatal(err)
		}
	}
	return granted.ID
}
