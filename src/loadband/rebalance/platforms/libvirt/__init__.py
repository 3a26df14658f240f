"""Platform *libvirt*: hosts are libvirt daemons, slices are virtual machines, a move is a live migration.

`binding` is what is used of libvirt's Python binding; `guests` says what a virtual machine of a run is, and `pace` how
much it works; `node` is one host's daemon, and `daemons` starts the run's own. `grounds` says what the platform needs
of its hosts: `lab` makes some of this machine's CPUs, `remote` takes those that are there. `platform` puts it together.
"""
