"""Who stands where: region to room, devices, their placement and service, school hours."""
