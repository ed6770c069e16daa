package e2e

import "testing"

// The kernel's backends carry packets without weftd, and what someone removes
// is back at once.
func TestKernelBackendFaults(t *testing.T) {
	var faults []fault
	for _, k := range []carrier{onVXLAN, onHostGW} {
		faults = append(faults,
			fault{name: k.name + ", both daemons killed", carrier: k, strike: kill(0, 1), slow: k == onHostGW},
			fault{name: k.name + ", sending daemon stopped (SIGSTOP)", carrier: k, strike: freeze(0), slow: true},
			fault{name: k.name + ", receiving daemon stopped (SIGSTOP)", carrier: k, strike: freeze(1), slow: true},
			fault{name: k.name + ", etcd stopped", carrier: k, strike: stopEtcd, slow: true},
			fault{name: k.name + ", routes deleted", carrier: k, strike: func(c *cluster) { c.deleteWeftRoutes(0) }, slow: k == onVXLAN},
		)
	}
	faults = append(faults,
		fault{name: "vxlan, VTEP of the sender deleted", carrier: onVXLAN, strike: deleteLink(0, "flannel.1")},
		fault{name: "vxlan, VTEP of the receiver deleted", carrier: onVXLAN, strike: deleteLink(1, "flannel.1"), slow: true},
	)
	runFaults(t, faults)
}

// The udp backend alone goes on while etcd is away, and a killed daemon is
// replaced by the next one.
func TestUDPFaults(t *testing.T) {
	runFaults(t, []fault{
		{name: "udp, etcd stopped", carrier: onUDP, strike: stopEtcd, slow: true},
		{name: "udp, sending daemon killed and started again", carrier: onUDP, strike: func(c *cluster) {
			kill(0)(c)
			c.startWeftd(0)
		}},
	})
}
