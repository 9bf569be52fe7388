"""Peers over gRPC; protobuf types stop here."""
