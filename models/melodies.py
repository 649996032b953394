"""Melodies of the public domain, in the notation of models/notation.py: what music.py learns from without a file.

Folk tunes and carols whose composers nobody knows, and tunes of composers who died before 1920. They are written from
memory in their plainest form, one tone at a time, without ornaments; a tone held over a bar line ends at it.
"""

TUNES = """
T: Ah! vous dirai-je, maman (traditional, France; Twinkle, Twinkle)
M: 4/4
L: 1/4
K: C
CCGG|AAG2|FFEE|DDC2|GGFF|EED2|GGFF|EED2|CCGG|AAG2|FFEE|DDC2|

T: Frère Jacques (traditional, France)
M: 4/4
L: 1/4
K: C
CDEC|CDEC|EFG2|EFG2|G/A/G/F/EC|G/A/G/F/EC|CG,C2|CG,C2|

T: Ode to Joy (Ludwig van Beethoven, 1824)
M: 4/4
L: 1/4
K: C
EEFG|GFED|CCDE|E3/2D/D2|EEFG|GFED|CCDE|D3/2C/C2|
DDEC|DE/F/EC|DE/F/ED|CDG,2|EEFG|GFED|CCDE|D3/2C/C2|

T: Au clair de la lune (traditional, France)
M: 4/4
L: 1/4
K: C
CCCD|E2D2|CEDD|C4|CCCD|E2D2|CEDD|C4|
DDDD|A,2A,2|DCB,A,|G,4|CCCD|E2D2|CEDD|C4|

T: Mary Had a Little Lamb (traditional, United States)
M: 4/4
L: 1/4
K: C
EDCD|EEE2|DDD2|EGG2|EDCD|EEEE|DDED|C4|

T: Row, Row, Row Your Boat (traditional, United States)
M: 6/8
L: 1/8
K: C
C3C3|C2DE3|E2DE2F|G6|cccGGG|EEECCC|G2FE2D|C6|

T: London Bridge (traditional, England)
M: 4/4
L: 1/4
K: C
G3/2A/GF|EFG2|DEF2|EFG2|G3/2A/GF|EFG2|D2G2|EC3|

T: Old MacDonald (traditional, England)
M: 4/4
L: 1/4
K: G
GGGD|EED2|BBAA|G3D|GGGD|EED2|BBAA|G3D/D/|
GGGD/D/|GGGz|G/G/GG/G/G|G/G/G/G/GG|GGGD|EED2|BBAA|G4|

T: Jingle Bells, the chorus (James Pierpont, 1857)
M: 4/4
L: 1/4
K: C
EEE2|EEE2|EGC3/2D/|E4|FFF3/2F/|FEEE/E/|EDDE|D2G2|
EEE2|EEE2|EGC3/2D/|E4|FFF3/2F/|FEEE/E/|GGFD|C4|

T: Yankee Doodle (traditional, United States)
M: 2/4
L: 1/8
K: G
GGAB|GBA2|GGAB|G2F2|GGAB|cBAG|FDEF|G2G2|
E3/2F/ED|EFG2|D3/2E/DC|B,2D2|E3/2F/ED|EFGE|DGFA|G2G2|

T: Oh! Susanna (Stephen Foster, 1848)
M: 2/4
L: 1/8
K: C
C/D/|EGG3/2A/|GEC3/2D/|EEDC|D3C/D/|EGG3/2A/|GEC3/2D/|EEDD|C4|
F2F2|AA2A|GGEC|D3C/D/|EGG3/2A/|GEC3/2D/|EEDD|C3|

T: Camptown Races, the verse (Stephen Foster, 1850)
M: 2/4
L: 1/8
K: D
AAFA|BAF2|FE3|FE3|AAFA|BAF2|E2FE|D4|

T: Clementine (Percy Montrose, 1884)
M: 3/4
L: 1/4
K: C
C/C/|CG,E/E/|ECC/E/|GGF/E/|D2D/E/|FFE/D/|ECC/E/|DG,B,/D/|C2|

T: When the Saints Go Marching In (traditional, United States)
M: 4/4
L: 1/4
K: C
zCEF|G4|zCEF|G4|zCEF|G2E2|C2E2|D4|
zEED|C3C|E2GG|GF3|z2EF|G2E2|C2D2|C4|

T: Auld Lang Syne (traditional, Scotland)
M: 4/4
L: 1/4
K: F
C|F3/2F/FA|G3/2F/GA|F3/2F/Ac|d3d|c3/2A/AF|G3/2F/GA|F3/2D/DC|F3
d|c3/2A/AF|G3/2F/Gd|c3/2A/Ac|d3f|c3/2A/AF|G3/2F/GA|F3/2D/DC|F3|

T: Amazing Grace (New Britain, traditional, United States)
M: 3/4
L: 1/4
K: G
D|G2B/G/|B2A|G2E|D2D|G2B/G/|B2A|d3|z2
B|d2B/G/|B2A|G2E|D2D|G2B/G/|B2A|G3|

T: Silent Night (Franz Xaver Gruber, 1818)
M: 6/8
L: 1/8
K: C
G3/2A/GE3|G3/2A/GE3|d2dB3|c2cG3|A2Ac3/2B/A|G3/2A/GE3|A2Ac3/2B/A|G3/2A/GE3|
d2df3/2d/B|c3e3|cGEG3/2F/D|C6|

T: Joy to the World (Antioch, Lowell Mason, 1839)
M: 4/4
L: 1/4
K: C
c2B3/2A/|G3F|E2D2|C3G|A3A|B3B|c3c|cBAG|G3/2F/Ec|cBAG|G3/2F/EE|
EEEE/F/|G3F/E/|DDDD/E/|F3E/D/|Cc2A|G3/2F/EF|E2D2|C4|

T: Good King Wenceslas (Tempus adest floridum, 1582)
M: 4/4
L: 1/4
K: G
GGGA|GGD2|EDEF|G2G2|GGGA|GGD2|EDEF|G2G2|
dcBA|BAG2|EDEF|G2G2|DDEF|GGA2|dcBA|G2c2|G4|

T: Greensleeves (traditional, England)
M: 6/8
L: 1/8
K: Am
A|c2de3/2f/e|d2BG3/2A/B|c2AA3/2^G/A|B2^GE2A|
c2de3/2f/e|d2BG3/2A/B|c3/2B/A^G3/2^F/^G|A3A3|
g3g3/2f/e|d2BG3/2A/B|c2AA3/2^G/A|B2^GE3|
g3g3/2f/e|d2BG3/2A/B|c3/2B/A^G3/2^F/^G|A3A2|

T: Scarborough Fair (traditional, England)
M: 3/4
L: 1/4
K: D dorian
D2D|A2A|E3/2F/E|D3|zAc|d2c|ABG|A3|
z2d|d2d|c2A|AGF|EC2|D2A|G2F|EDC|D3|

T: Lullaby (Johannes Brahms, 1868)
M: 3/4
L: 1/4
K: F
A/A/|c3/2A/A|c2A/c/|fe3/2d/|dcG/A/|BGG/A/|B2G/B/|e/d/ce|f2
F/F/|f2d/B/|c2A/F/|Bcd|c2F/F/|f2d/B/|c2A/F/|BAG|F2|

T: Hänschen klein (traditional, Germany)
M: 4/4
L: 1/4
K: C
GEE2|FDD2|CDEF|GGG2|GEE2|FDD2|CEGG|C4|
DDDD|DEF2|EEEE|EFG2|GEE2|FDD2|CEGG|C4|

T: This Old Man (traditional, England)
M: 4/4
L: 1/4
K: C
GEG2|GEG2|AGFE|DEFE/F/|GCC/C/C|C/D/E/F/G2|GDDF|EDC2|

T: Skip to My Lou (traditional, United States)
M: 4/4
L: 1/4
K: C
E2C2|EE/E/G2|D2B,2|DD/D/F2|E2C2|EE/E/G2|DE/F/ED|C2C2|

T: Pop Goes the Weasel (traditional, England)
M: 6/8
L: 1/8
K: C
G,|C2CD2D|EGEC2G,|C2CD2D|E3C2G,|C2CD2D|EGEC3|A3D2F|E3C2|

T: Hot Cross Buns (traditional, England)
M: 4/4
L: 1/4
K: C
EDC2|EDC2|C/C/C/C/D/D/D/D/|EDC2|

T: Drunken Sailor (traditional, at sea)
M: 2/4
L: 1/8
K: D dorian
AA/A/AA/A/|ADFA|GG/G/GG/G/|GCEG|AA/A/AA/A/|ABcd|cAGE|D2D2|
A2AA|ADFA|G2GG|GCEG|A2AA|ABcd|cAGE|D2D2|

T: O Tannenbaum (traditional, Germany)
M: 3/4
L: 1/8
K: F
C|F3/2F/F3G|A3/2A/A3A|GAB2E2|G2F2zc|cAd3c|cBB3B|BGc3B|BAA2z
C|F3/2F/F3G|A3/2A/A3A|GAB2E2|G2F2z|

T: Korobeiniki (traditional, Russia)
M: 4/4
L: 1/4
K: Am
eB/c/dc/B/|AA/c/ed/c/|B3/2c/de|cAA2|d3/2f/ag/f/|e3/2c/ed/c/|BB/c/de|cAA2|

T: Alouette, the refrain (traditional, Canada)
M: 4/4
L: 1/4
K: C
C3/2D/EE|D/C/D/E/CG,|C3/2D/EE|D/C/D/E/C2|

T: Sur le pont d'Avignon (traditional, France)
M: 4/4
L: 1/4
K: F
FFF2|GGG2|ABcF|EFGC|FFF2|GGG2|ABcF|GEF2|

T: Deck the Halls (Nos Galan, traditional, Wales)
M: 4/4
L: 1/4
K: C
G3/2F/ED|CDEC|D/E/F/D/E3/2D/|CB,C2|G3/2F/ED|CDEC|D/E/F/D/E3/2D/|CB,C2|
D3/2E/FD|E3/2F/GD|E/^F/GA/B/c|BAG2|G3/2F/ED|CDEC|A/A/A/A/G3/2F/|EDC2|

T: Aura Lee (George Poulton, 1861)
M: 4/4
L: 1/4
K: C
G,CB,C|DA,D2|CB,A,B,|C4|G,CB,C|DA,D2|CB,A,B,|C4|
EEE2|EEE2|EDCD|E4|EEFE|DA,D2|CB,A,B,|C4|

T: Itsy Bitsy Spider (traditional, United States)
M: 6/8
L: 1/8
K: C
G,|C2CC2D|E3E2E|D2CD2E|C3z3|E3E2F|G3z2G|F2EF2G|E3z3|
C3C2D|E3z2E|D2CD2E|C3zG,G,|C2CC2D|E3E2E|D2CD2E|C5|

T: Three Blind Mice (traditional, England)
M: 6/8
L: 1/8
K: C
E3D3|C6|E3D3|C6|G3F2F|E6|G3F2F|E5G|
c2cBAB|c2GG2G|cccBAB|c2GG2G/G/|c2cBAB|cGGG2F|E3D3|C6|

T: Go Tell Aunt Rhody (Jean-Jacques Rousseau, 1752)
M: 4/4
L: 1/4
K: C
E2ED|C2C2|D2DF|EDC2|G2GF|E2E2|DCDE|C4|

T: God Save the King (traditional, England)
M: 3/4
L: 1/4
K: G
GGA|F3/2G/A|BBc|B3/2A/G|AGF|G3|
ddd|d3/2c/B|ccc|c3/2B/A|Bc/B/A/G/|B3/2c/d|e/c/BA|G3|

T: Old Hundredth (Loys Bourgeois, 1551)
M: 4/4
L: 1/4
K: G
G2|GFED|G2A2|B2B2|BBAG|c2B2|A2G2|ABAG|E2F2|G2d2|BGAc|B2A2|G2|

T: Ihr Kinderlein, kommet (Johann Abraham Peter Schulz, 1794)
M: 2/4
L: 1/8
K: C
G|G2EG|G2EG|F2DF|E3G|G2EG|G2EG|F2DF|E3
E|D2DD|F2FF|E2EE|A3A|G2GG|c2GE|G2FD|C3|

T: Summ, summ, summ (traditional, Bohemia)
M: 4/4
L: 1/4
K: C
GFE2|D/E/F/D/C2|E/F/G/E/D/E/F/D/|E/F/G/E/D/E/F/D/|GFE2|D/E/F/D/C2|

T: Alle meine Entchen (traditional, Germany)
M: 4/4
L: 1/4
K: C
CDEF|G2G2|AAAA|G4|AAAA|G4|FFFF|E2E2|DDDD|C4|

T: Minuet in G (Christian Petzold, about 1725)
M: 3/4
L: 1/4
K: G
dG/A/B/c/|dGG|ec/d/e/f/|gGG|cd/c/B/A/|Bc/B/A/G/|FG/A/B/G/|A3|
dG/A/B/c/|dGG|ec/d/e/f/|gGG|cd/c/B/A/|Bc/B/A/G/|AB/A/G/F/|G3|

T: The Surprise Symphony, the andante's theme (Joseph Haydn, 1791)
M: 2/4
L: 1/8
K: C
CCEE|GGE2|FFDD|B,B,G,2|CCEE|GGE2|cc^F^F|G2z2|

T: O du lieber Augustin (traditional, Austria)
M: 3/4
L: 1/4
K: C
G3/2A/G/F/|ECC|DG,G,|ECC|G3/2A/G/F/|ECC|DG,G,|C3|
DG,G,|ECC|DG,G,|ECC|G3/2A/G/F/|ECC|DG,G,|C3|

T: We Wish You a Merry Christmas (traditional, England)
M: 3/4
L: 1/4
K: F
C|FF/G/F/E/|DDD|GG/A/G/F/|ECC|AA/B/A/G/|FDC/C/|DGE|F2C|
FFF|E2E|FED|C2G|AGF|cCC/C/|DGE|F2|

T: J'ai du bon tabac (traditional, France)
M: 4/4
L: 1/4
K: C
CDEC|D2DE|F2F2|E2E2|CDEC|D2DE|F2G2|C4|
G2GF|E2DE|F2G2|D4|G2GF|E2DE|F2G2|D4|
CDEC|D2DE|F2F2|E2E2|CDEC|D2DE|F2G2|C4|

T: God Rest Ye Merry, Gentlemen (traditional, England)
M: 4/4
L: 1/4
K: Em
E|EBBA|GFED|EFGA|B3E|EBBA|GFED|EFGA|B3
B|cABc|deBA|GEFG|A2GA|B2cB|BAGF|E2GF/E/|A2GA|Bcde|BAGF|E3|

T: In the Hall of the Mountain King, the theme (Edvard Grieg, 1875)
M: 4/4
L: 1/8
K: Am
A,B,CDECE2|^DB,^D2=D_B,D2|A,B,CDECEA|GECEG4|

T: Symphony in G minor, the first theme (Wolfgang Amadeus Mozart, 1788)
M: 4/4
L: 1/8
K: Gm
ED|D2EDD2ED|D2B2z2BA|G2GFE2ED|C2C2z2
DC|C2DCC2DC|C2A2z2AG|^F2^FED2DC|B,2B,2z2|

T: Rondo alla turca, the theme (Wolfgang Amadeus Mozart, 1783)
M: 2/4
L: 1/16
K: Am
BA^GA|c4dcBc|e4fe^de|ba^gaba^ga|c'4a2c'2|b2a2g2a2|b2a2g2a2|b2a2g2^f2|e4|

T: From the New World, the largo's theme (Antonín Dvořák, 1893)
M: 4/4
L: 1/4
K: C
E3/2G/G2|E3/2D/C2|D3/2E/G3/2E/|D4|E3/2G/G2|E3/2D/C2|D3/2E/D3/2C/|C4|

T: Hark! The Herald Angels Sing (Felix Mendelssohn, 1840)
M: 4/4
L: 1/4
K: G
DGG3/2F/|GBBA|ddd3/2c/|BAB2|DGG3/2F/|GBBA|dAA3/2G/|FED2|
dddG|cBBA|dddG|cBBA|eeed|cBc2|AB/c/d3/2G/|GAB2|eeed|cBc2|AB/c/d3/2G/|GAG2|

T: Angels We Have Heard on High (traditional, France)
M: 4/4
L: 1/4
K: F
AAAc|c3/2B/A2|AGAc|A3/2G/F2|AAAc|c3/2B/A2|AGAc|A3/2G/F2|
c2d/c/B/A/|B2c/B/A/G/|A2B/A/G/F/|G3/2C/C2|FGAB|A2G2|
c2d/c/B/A/|B2c/B/A/G/|A2B/A/G/F/|G3/2C/C2|FGAB|A2G2|F4|

T: The First Noel (traditional, England)
M: 3/4
L: 1/4
K: D
F/E/|D3/2E/F/G/|A2B/c/|dcB|A2B/c/|dcB|ABc|dAG|F2
F/E/|D3/2E/F/G/|A2B/c/|dcB|A2B/c/|dcB|ABc|dAG|F2
F/E/|D3/2E/F/G/|A2d/c/|B2B|A3|dcB|ABc|dAG|F2|

T: Good Morning to All (Mildred Hill, 1893)
M: 3/4
L: 1/4
K: C
G,3/4G,/4|A,G,C|B,2G,3/4G,/4|A,G,D|C2G,3/4G,/4|GEC|B,A,F3/4F/4|ECD|C2|

T: The Farmer in the Dell (traditional, Germany)
M: 6/8
L: 1/8
K: C
G,|C2CC2C|C3z2D|E2EE2E|E3z3|G3G2A|G2EC2D|E2ED2D|C3z2|
"""
