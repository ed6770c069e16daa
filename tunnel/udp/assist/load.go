package assist

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// programs are loaded programs and their maps.
type programs struct {
	*shared
	egress, ingress, arrival *ebpf.Program
}

// load has the kernel verify and compile the programs.
func load(cfg Config) (_ *programs, err error) {
	p := new(programs)
	if p.shared, err = newShared(cfg); err != nil {
		return nil, err
	}
	for _, program := range []struct {
		name string
		code asm.Instructions
		at   **ebpf.Program
	}{
		{"weft_egress", egress(cfg, p.shared), &p.egress},
		{"weft_ingress", ingress(cfg, p.shared), &p.ingress},
		{"weft_arrival", arrival(cfg, p.shared), &p.arrival},
	} {
		*program.at, err = ebpf.NewProgram(&ebpf.ProgramSpec{
			Name:         program.name,
			Type:         ebpf.SchedCLS,
			License:      "GPL", // see the package's comment
			Instructions: program.code,
		})
		if err != nil {
			p.close()
			return nil, fmt.Errorf("load the eBPF program %s: %w", program.name, err)
		}
	}
	return p, nil
}

// close closes what there is.
func (p *programs) close() error {
	return errors.Join(p.egress.Close(), p.ingress.Close(), p.arrival.Close(), p.shared.close())
}
