"""The cloud side: jobs that no worker takes in time go to paid APIs, for prepaid credits."""
