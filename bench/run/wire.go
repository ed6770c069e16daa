package run

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// A token bucket of a wire: a superpacket fits the bucket, and the queue
// before it holds some 16 ms at 1 Gbit/s, as a switch's.
const (
	bucketBytes = 128 << 10
	queueBytes  = 2 << 20
)

// setRate limits what a device sends, in bits per second; 0 is no limit.
func setRate(in *lab.Namespace, device string, rate uint64) error {
	err := in.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		tbf := &netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate / 8, Limit: queueBytes,
		}
		if rate == 0 {
			// Without the limiter there is nothing of its handle to delete.
			if err := netlink.QdiscDel(tbf); err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
				return err
			}
			return nil
		}
		tbf.Buffer = uint32(netlink.Xmittime(tbf.Rate, bucketBytes))
		return netlink.QdiscReplace(tbf)
	})
	if errors.Is(err, unix.ENOENT) && rate > 0 {
		err = fmt.Errorf("%w: the kernel has no token bucket (CONFIG_NET_SCH_TBF, module sch_tbf); leave the profile out", err)
	}
	if err != nil {
		return fmt.Errorf("limit %s in %s to %d bit/s: %w", device, in.Name, rate, err)
	}
	return nil
}

// thousand is what losses are counted in.
const thousand = 1000

// setLoss drops so many of a thousand packets that a device receives, chosen
// at random.
func setLoss(in *lab.Namespace, device string, lose uint32) error {
	err := in.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := &nftables.Table{Name: "weft-bench-" + device, Family: nftables.TableFamilyNetdev}
		c.AddTable(table) // so that there is one to delete
		c.DelTable(table)
		if lose > 0 {
			c.AddTable(table)
			chain := c.AddChain(&nftables.Chain{Name: "loss", Table: table, Type: nftables.ChainTypeFilter,
				Hooknum: nftables.ChainHookIngress, Priority: nftables.ChainPriorityFilter, Device: device})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Numgen{Register: 1, Modulus: thousand, Type: unix.NFT_NG_RANDOM},
				&expr.Byteorder{SourceRegister: 1, DestRegister: 1, Op: expr.ByteorderHton, Len: 4, Size: 4},
				&expr.Cmp{Register: 1, Op: expr.CmpOpLt, Data: binary.BigEndian.AppendUint32(nil, lose)},
				&expr.Verdict{Kind: expr.VerdictDrop},
			}})
		}
		return c.Flush()
	})
	if err == nil {
		return nil
	}
	if lose == 0 && (errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EAFNOSUPPORT)) {
		return nil // a kernel that cannot drop has nothing to undo
	}
	return fmt.Errorf("drop %d of %d packets on %s in %s: %w; it takes nftables with CONFIG_NF_TABLES_NETDEV and CONFIG_NFT_NUMGEN, or leave the profile out",
		lose, thousand, device, in.Name, err)
}
