# Answers a picture (JPEG) with the thumbnail that is in it, as cameras put one there.
use strict;
use warnings;
binmode STDIN;
binmode STDOUT;
local $/;
my $picture = <STDIN> // '';
$picture =~ /^\xFF\xD8\xFF/ or die "this is no JPEG\n";
substr($picture, 2) =~ /(\xFF\xD8\xFF.*?\xFF\xD9)/s or die "this picture has no thumbnail in it\n";
print $1;
