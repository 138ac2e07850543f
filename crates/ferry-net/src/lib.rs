//! Networks: plans, bridges, addresses, nftables, published ports, DNS answers.
