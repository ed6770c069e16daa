// Package assist has the kernel carry what it carries better than user space,
// by two eBPF programs on the same wire format: each packet that is not a
// superpacket stays in the kernel, from the TUN's way out to the underlay's and
// back. The engine goes on working as it does without; a program that does not
// see at a glance that a packet is its own leaves it alone.
package assist
