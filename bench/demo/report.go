package demo

import (
	"fmt"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// table shows the pairs' figures.
func (d *demo) table() string {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"from", "to", "RTT weft udp", "RTT plain", "TCP weft udp", "TCP plain"})
	var columns []table.ColumnConfig
	for n := 3; n <= 6; n++ {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	for _, p := range d.pairs {
		t.AppendRow(table.Row{
			p.from.Container.IPv4, p.to.Container.IPv4,
			microseconds(p.rtt), microseconds(p.plainRTT),
			gigabits(p.rate), gigabits(p.plainRate),
		})
	}
	cc := congestion()
	if cc == "" {
		cc = "the kernel's default congestion control"
	}
	return t.Render() + fmt.Sprintf("\nplain: the same devices without an overlay. TCP: one flow, %s, one second each.\n"+
		"Hosts, containers and traffic share this one machine: figures to look at, not a benchmark.", cc)
}

func microseconds(d time.Duration) string {
	return fmt.Sprintf("%.0f µs", float64(d.Nanoseconds())/1e3)
}

func gigabits(bitsPerSecond float64) string {
	return fmt.Sprintf("%.2f Gbit/s", bitsPerSecond/1e9)
}
