// Package subnet leases a subnet of the cluster network to each node, and
// knows what the others lease. It does not know etcd: that is a Registry.
//
// A lease's way through the package:
//
//	config.go    the network, with flannel's defaults and limits
//	allocate.go  a free subnet in it
//	decide.go    what to do about this node's lease, without side effects
//	hold.go      doing it
//	watch.go     what other nodes do
//	table.go     what all that adds up to
//	view.go      what the daemon is told of it
//
// manager.go drives these from one goroutine.
package subnet
